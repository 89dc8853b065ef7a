// The number of edits between two texts when a run of words may move at the price of one: TER's greedy search for shifts.
import { cheapestEdits, distance, distanceFrom, tabulate, type EditTable, type WordIds } from './edit-distance.ts'

/** Words that move at once, and how far, as in Tercom. */
const shiftMax = 10
const shiftDistanceMax = 50
/** Shifts that are tried between two texts, as in sacrebleu. */
const candidatesMax = 1000

interface Run {
  /** First word in the hypothesis. */
  readonly start: number
  /** First word of the same run in the reference. */
  readonly target: number
  readonly length: number
}

interface Shift {
  /** By how much the distance falls, 1 or more. */
  readonly gain: number
  readonly length: number
  readonly start: number
  /** Before which word of the hypothesis the run is put. */
  readonly before: number
  readonly words: WordIds
}

/** How hypothesis and reference lie beside each other on the cheapest path of edits. */
interface Course {
  /** Of each word of the reference the last one of the hypothesis up to there, -1 if none. */
  readonly beside: readonly number[]
  readonly wrongInHypothesis: readonly boolean[]
  readonly wrongInReference: readonly boolean[]
}

/**
 * Insertions, deletions, replacements and shifts from `hypothesis` to `reference`. The best shift is taken again and
 * again until none helps (Snover et al. 2006, algorithm 1); a shift moves words that are not right where they stand
 * to where the reference has the same words and the hypothesis has not.
 */
export function countEdits(hypothesis: WordIds, reference: WordIds): number {
  if (reference.length === 0) return hypothesis.length
  let table = tabulate(hypothesis, reference)
  let shifts = 0
  let tried = 0
  for (;;) {
    const { best, candidates } = bestShift(table, candidatesMax - tried)
    tried += candidates
    if (tried >= candidatesMax || best === undefined) return shifts + distance(table)
    table = tabulate(best.words, reference)
    shifts++
  }
}

function bestShift(table: EditTable, left: number): { readonly best: Shift | undefined; readonly candidates: number } {
  const { hypothesis, reference } = table
  const before = distance(table)
  let best: Shift | undefined
  let candidates = 0
  if (before === 0) return { best, candidates }
  const course = follow(table)
  for (const run of sharedRuns(hypothesis, reference)) {
    if (!isWorthMoving(run, course)) continue
    for (const place of places(run, course.beside)) {
      const words = move(hypothesis, run, place)
      candidates++
      // Only what helps, and at least as much as another, is of interest.
      const limit = before - Math.max(1, best?.gain ?? 1)
      const after = distanceFrom(table, words, Math.min(run.start, place), limit)
      if (after === undefined) continue
      const shift = { gain: before - after, length: run.length, start: run.start, before: place, words }
      if (best === undefined || isBetter(shift, best)) best = shift
    }
    if (candidates >= left) break
  }
  return { best, candidates }
}

/** The greater gain, then the longer, the earlier, the one that goes to the earlier place. */
function isBetter(a: Shift, b: Shift): boolean {
  if (a.gain !== b.gain) return a.gain > b.gain
  if (a.length !== b.length) return a.length > b.length
  if (a.start !== b.start) return a.start < b.start
  return a.before < b.before
}

function follow(table: EditTable): Course {
  const beside: number[] = []
  const wrongInHypothesis: boolean[] = []
  const wrongInReference: boolean[] = []
  for (const edit of cheapestEdits(table)) {
    if (edit !== 'insert') wrongInHypothesis.push(edit !== 'keep')
    if (edit === 'delete') continue
    beside.push(wrongInHypothesis.length - 1)
    wrongInReference.push(edit !== 'keep')
  }
  return { beside, wrongInHypothesis, wrongInReference }
}

/** All runs that stand in both texts, also the shorter starts of longer ones. */
function* sharedRuns(hypothesis: WordIds, reference: WordIds): Generator<Run> {
  for (let start = 0; start < hypothesis.length; start++) {
    const end = Math.min(reference.length, start + shiftDistanceMax + 1)
    for (let target = Math.max(0, start - shiftDistanceMax); target < end; target++) {
      const limit = Math.min(shiftMax, hypothesis.length - start, reference.length - target)
      for (let length = 1; length <= limit; length++) {
        if (hypothesis[start + length - 1] !== reference[target + length - 1]) break
        yield { start, target, length }
      }
    }
  }
}

/** Something in it is wrong on either side, and it does not already stand where it would go. */
function isWorthMoving({ start, target, length }: Run, course: Course): boolean {
  const beside = course.beside[target] as number
  return (
    course.wrongInHypothesis.slice(start, start + length).includes(true) &&
    course.wrongInReference.slice(target, target + length).includes(true) &&
    !(start <= beside && beside < start + length)
  )
}

/** Behind the word that lies beside each word of the run in the reference, or beside the one in front of it. */
function places({ target, length }: Run, beside: readonly number[]): number[] {
  const found: number[] = []
  for (let i = target - 1; i < target + length; i++) {
    const place = i === -1 ? 0 : (beside[i] as number) + 1
    if (found.at(-1) !== place) found.push(place)
  }
  return found
}

/** A place inside the run moves it behind as many of the words that follow. */
function move(words: WordIds, { start, length }: Run, place: number): number[] {
  const run = words.slice(start, start + length)
  if (place < start)
    return [...words.slice(0, place), ...run, ...words.slice(place, start), ...words.slice(start + length)]
  const end = place > start + length ? place : place + length
  return [...words.slice(0, start), ...words.slice(start + length, end), ...run, ...words.slice(end)]
}

// Guesses what comes next in texts of one task: what came after the same tokens before, there or in earlier texts.
import { countMax, NgramTable, runMax } from './ngram-table.ts'

export interface Guess {
  readonly token: number
  /** How often guesses of its kind came true of late. */
  readonly chance: number
}

/** A guess before it is known what it is worth. */
interface Candidate {
  readonly token: number
  readonly kind: number
}

/** Counts of earlier texts from which on their guesses are kinds of their own. */
const certainties = [1, 2, countMax / 2] as const
const ownKinds = runMax
const kinds = ownKinds + runMax * certainties.length
/** Guesses of a kind that are remembered, about: older ones count half each time. */
const triesMax = 256
/** Tries that a kind begins with, none of which came true. */
const triesFirst = 2

/**
 * Drafting without a model: by the text's own earlier tokens (prompt lookup: Saxena 2023), which copies what the input says, and by those of all texts
 * with the same prefix. How far either can be trusted is counted for each length of run, and of greedy and sampled texts apart.
 */
export class DraftBook {
  readonly #table = new NgramTable()
  readonly #greedy = new Rates()
  readonly #sampled = new Rates()

  get bytes(): number {
    return this.#table.bytes
  }

  /** What comes after all of `text`; null: nobody knows. */
  next(text: readonly number[], isSampled: boolean): Guess | null {
    const rates = this.#rates(isSampled)
    let best: Guess | null = null
    for (const candidate of this.#candidates(text, text.length)) {
      const chance = rates.chance(candidate.kind)
      if (best === null || chance > best.chance) best = { token: candidate.token, chance }
    }
    return best
  }

  /** Says that `text[end]` came after what is before it. */
  learn(text: readonly number[], end: number, isSampled: boolean): void {
    const rates = this.#rates(isSampled)
    for (const { token, kind } of this.#candidates(text, end)) rates.tell(kind, token === text[end])
    for (let length = 1; length <= Math.min(runMax, end); length++) this.#table.learn(text, end, length)
  }

  #rates(isSampled: boolean): Rates {
    return isSampled ? this.#sampled : this.#greedy
  }

  /** One of the text itself and one of earlier texts, each by the longest run that is known. */
  #candidates(text: readonly number[], end: number): readonly Candidate[] {
    const candidates: Candidate[] = []
    const own = ownFollower(text, end)
    if (own !== null) candidates.push({ token: own.token, kind: own.length - 1 })
    for (let length = Math.min(runMax, end); length >= 1; length--) {
      const known = this.#table.after(text, end, length)
      if (known === null) continue
      const certainty = certainties.findLastIndex((least) => known.count >= least)
      candidates.push({ token: known.token, kind: ownKinds + (length - 1) * certainties.length + certainty })
      break
    }
    return candidates
  }
}

/** What came after the longest run before `end` that the text had before, the latest of equals. */
function ownFollower(text: readonly number[], end: number): { readonly token: number; readonly length: number } | null {
  let [length, at] = [0, 0]
  for (let i = end - 1; i >= 1 && length < runMax; i--) {
    let common = 0
    while (common < Math.min(runMax, i) && text[i - 1 - common] === text[end - 1 - common]) common++
    if (common > length) [length, at] = [common, i]
  }
  return length === 0 ? null : { token: text[at] as number, length }
}

class Rates {
  readonly #tries = new Float64Array(kinds).fill(triesFirst)
  readonly #hits = new Float64Array(kinds)

  chance(kind: number): number {
    return (this.#hits[kind] as number) / (this.#tries[kind] as number)
  }

  tell(kind: number, isHit: boolean): void {
    const tries = (this.#tries[kind] as number) + 1
    const hits = (this.#hits[kind] as number) + (isHit ? 1 : 0)
    const share = tries < triesMax ? 1 : 0.5
    this.#tries[kind] = share * tries
    this.#hits[kind] = share * hits
  }
}

// Finds a row's next token from its largest logits and those that rules change, where they are enough to know what it would be from all of them.
import { changedLogit, type LogitChanges } from '../logit-changes.ts'
import type { ChosenToken, TokenChoice } from '../runtime.ts'

/** What the device tells of a row of logits. */
export interface BestLogits {
  /** The largest first, of equals the lower token. */
  readonly logits: Float32Array
  /** Whose they are, in the same order. */
  readonly tokens: Float32Array
  /** Whether these are all that there are. */
  readonly isWhole: boolean
  /** Of the tokens that the choice changes, in their order. */
  readonly changing: Float32Array
  /** Σ e^(l − max l) over all logits. */
  readonly sum: number
  /** Σ e^((l − max l) / temperature) over all logits. */
  readonly sumAtTemperature: number
}

interface Candidate {
  readonly token: number
  /** As the model made it. */
  readonly logit: number
  /** As the rules leave it. */
  readonly changed: number
}

/** The largest of a row, rules applied. */
interface Ranking {
  /** The largest first, of equals the lower token. All others are less, or equal the last of these. */
  readonly candidates: readonly Candidate[]
  readonly isWhole: boolean
  /** Whether all that equal the last are among them. */
  readonly hasEquals: boolean
  /** Σ e^((l − largest l) / temperature) over all tokens; null: unknown. */
  readonly sum: number | null
}

/** Of a sum in float32 so much must be left when a part of it is taken away. */
const leastRest = 0.05

/** null: the token may be one that is not known, or some logit is no number. */
export function drawFrom(best: BestLogits, choice: TokenChoice): ChosenToken | null {
  const [largest, normalizer] = [best.logits[0] as number, Math.log(best.sum)]
  if (!Number.isFinite(largest) || !Number.isFinite(normalizer)) return null
  const { changes } = choice
  const ranking = changes === undefined ? asMade(best) : afterChanges(best, changes, scaleOf(choice))
  const [first] = ranking.candidates
  if (first === undefined || !Number.isFinite(first.changed)) return null
  const drawn = choice.temperature === 0 ? first : drawnOf(ranking, first.changed, choice)
  return drawn && { token: drawn.token, logprob: drawn.logit - largest - normalizer }
}

/** 1 / temperature; a difference of logits times it is a number, or infinite. Of a greedy choice 1: nothing hangs on it. */
export const scaleOf = ({ temperature }: TokenChoice): number =>
  temperature === 0 ? 1 : Math.min(1 / temperature, 3e38)

function asMade({ logits, tokens, isWhole, sumAtTemperature }: BestLogits): Ranking {
  const candidates = Array.from(logits, (logit, i) => ({ token: tokens[i] as number, logit, changed: logit }))
  return { candidates, isWhole, hasEquals: isWhole, sum: sumAtTemperature }
}

/** What is not known is no larger than the last of `best`; what is, and larger than that, is in its right place. */
function afterChanges(best: BestLogits, changes: LogitChanges, scale: number): Ranking {
  const changing = new Set(changes.tokens)
  const others = asMade(best).candidates.filter(({ token }) => !changing.has(token))
  const changed = Array.from(changes.tokens, (token, i): Candidate => {
    const logit = best.changing[i] as number
    return { token, logit, changed: changedLogit(logit, changes, i) }
  })
  const floor = best.isWhole ? -Infinity : (best.logits.at(-1) as number)
  const candidates = [...others, ...changed]
    .filter((each) => each.changed > floor)
    .toSorted((a, b) => b.changed - a.changed || a.token - b.token)
  const largest = candidates[0]?.changed ?? 0
  const before = best.logits[0] as number
  const weights = (of: (candidate: Candidate) => number, from: number): number =>
    changed.reduce((sum, candidate) => sum + Math.exp((of(candidate) - from) * scale), 0)
  const rest = best.sumAtTemperature - weights(({ logit }) => logit, before)
  const sum =
    rest < leastRest * best.sumAtTemperature
      ? null
      : rest * Math.exp((before - largest) * scale) + weights((each) => each.changed, largest)
  return { candidates, isWhole: best.isWhole, hasEquals: true, sum }
}

/** null where it may be another. */
function drawnOf(ranking: Ranking, largest: number, choice: TokenChoice): Candidate | null {
  const weightOf = ({ changed }: Candidate): number => Math.exp((changed - largest) * scaleOf(choice))
  const kept = likeliest(ranking, weightOf, choice)
  if (kept === null) return null
  // In the order of tokens, as whoever draws from all of them does.
  const ordered = kept.toSorted((a, b) => a.token - b.token)
  let left = choice.uniform * sumOf(ordered, weightOf)
  return ordered.find((each) => (left -= weightOf(each)) < 0) ?? (ordered.at(-1) as Candidate)
}

function likeliest(
  { candidates, isWhole, hasEquals, sum: whole }: Ranking,
  weightOf: (candidate: Candidate) => number,
  { topK, topP }: TokenChoice,
): readonly Candidate[] | null {
  let kept = candidates
  let isComplete = isWhole
  if (topK > 0 && topK <= candidates.length) {
    const last = (candidates[topK - 1] as Candidate).changed
    kept = candidates.filter(({ changed }) => changed >= last)
    // Those that equal the last of them may be drawn too, and may go on beyond what is known.
    isComplete ||= hasEquals || kept.length < candidates.length
  }
  if (topK > 0 && !isComplete) return null
  if (topP === 1) return isComplete ? kept : null
  const total = isComplete ? sumOf(kept, weightOf) : whole
  if (total === null) return null
  let sum = 0
  const until = kept.findIndex((each) => (sum += weightOf(each)) >= topP * total)
  if (until >= 0) return kept.slice(0, until + 1)
  return isComplete ? kept : null
}

function sumOf(candidates: readonly Candidate[], weightOf: (candidate: Candidate) => number): number {
  return candidates.reduce((sum, each) => sum + weightOf(each), 0)
}

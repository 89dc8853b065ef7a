// Which tokens may still be drawn after the filters of a choice, told from the largest of a row where they are enough to know it.
import type { TokenChoice } from '../runtime.ts'

export interface Candidate {
  readonly token: number
  /** As the model made it. */
  readonly logit: number
  /** As the rules leave it. */
  readonly changed: number
}

/** The largest of a row, rules applied. */
export interface Ranking {
  /** The largest first, of equals the lower token. All others are less, or equal the last of these. */
  readonly candidates: readonly Candidate[]
  readonly isWhole: boolean
  /** Whether all that equal the last are among them. */
  readonly hasEquals: boolean
  /** Σ e^((l − largest l) / temperature) over all tokens; null: unknown. */
  readonly sum: number | null
  /** Σ (largest l − l) / temperature · e^((l − largest l) / temperature) over all tokens; NaN: unknown. */
  readonly moment: number
}

/** What one filter leaves to the next. */
interface Left {
  readonly candidates: readonly Candidate[]
  /** Whether there are no others. Where there are, they are all that `Ranking` leaves out. */
  readonly isComplete: boolean
}

/** In the order of transformers: top-k, top-p, min-p, typical. null: some that may be drawn are not known. `scale`: 1 / temperature. */
export function kept(ranking: Ranking, scale: number, choice: TokenChoice): readonly Candidate[] | null {
  const largest = (ranking.candidates[0] as Candidate).changed
  const depthOf = ({ changed }: Candidate): number => (largest - changed) * scale
  const weightOf = (each: Candidate): number => Math.exp(-depthOf(each))
  const { minP = 0, typicalP = 1 } = choice
  let left: Left | null = { candidates: ranking.candidates, isComplete: ranking.isWhole }
  left = largestOf(left, ranking, choice.topK)
  left = left && likeliest(left, ranking, choice.topP, weightOf)
  if (left !== null && minP > 0) left = probable(left, largest + Math.log(minP) / scale)
  left = left && typical(left, ranking, typicalP, depthOf)
  return left?.isComplete === true ? left.candidates : null
}

function largestOf(left: Left, { hasEquals }: Ranking, k: number): Left | null {
  const { candidates } = left
  if (k === 0 || (left.isComplete && k >= candidates.length)) return left
  if (k > candidates.length) return null
  const last = (candidates[k - 1] as Candidate).changed
  const own = candidates.filter(({ changed }) => changed >= last)
  // Those that equal the last of them may be drawn too, and may go on beyond what is known.
  return left.isComplete || hasEquals || own.length < candidates.length ? { candidates: own, isComplete: true } : null
}

function likeliest(left: Left, ranking: Ranking, p: number, weightOf: (each: Candidate) => number): Left | null {
  if (p === 1) return left
  const total = left.isComplete ? sumOf(left.candidates, weightOf) : ranking.sum
  if (total === null) return null
  let sum = 0
  const until = left.candidates.findIndex((each) => (sum += weightOf(each)) >= p * total)
  if (until >= 0) return { candidates: left.candidates.slice(0, until + 1), isComplete: true }
  return left.isComplete ? left : null
}

/** Those with this logit at least. */
function probable({ candidates, isComplete }: Left, floor: number): Left | null {
  const own = candidates.filter(({ changed }) => changed >= floor)
  return isComplete || own.length < candidates.length ? { candidates: own, isComplete: true } : null
}

/** Meister et al. 2022, eq. 12: |−log p − H| = |depth − Σ p · depth|, as the logarithm of the sum stands in both. */
function typical(left: Left, ranking: Ranking, mass: number, depthOf: (each: Candidate) => number): Left | null {
  if (mass === 1) return left
  const { candidates, isComplete } = left
  const weightOf = (each: Candidate): number => Math.exp(-depthOf(each))
  const momentOf = (each: Candidate): number => (weightOf(each) === 0 ? 0 : weightOf(each) * depthOf(each))
  const sum = isComplete ? sumOf(candidates, weightOf) : ranking.sum
  const moment = isComplete ? sumOf(candidates, momentOf) : ranking.moment
  if (sum === null || Number.isNaN(moment)) return null
  const mean = moment / sum
  const far = (each: Candidate): number => Math.abs(depthOf(each) - mean)
  const nearest = candidates.toSorted((a, b) => far(a) - far(b) || a.token - b.token)
  let found = 0
  const last =
    nearest.find((each) => (found += weightOf(each)) >= mass * sum) ?? (isComplete ? nearest.at(-1) : undefined)
  if (last === undefined) return null
  // What is not known lies at least as deep as the last that is.
  const unknown = depthOf(candidates.at(-1) as Candidate) - mean
  if (!isComplete && !(unknown > far(last))) return null
  return { candidates: candidates.filter((each) => far(each) <= far(last)), isComplete: true }
}

export function sumOf<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((sum, each) => sum + of(each), 0)
}

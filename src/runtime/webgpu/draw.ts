// Draws a row's next token from its largest logits alone, where they are enough to know what it would be from all of them.
import type { ChosenToken, TokenChoice } from '../runtime.ts'

/** What the device tells of a row of logits. */
export interface BestLogits {
  /** The largest first, of equals the lower token. */
  readonly logits: Float32Array
  /** Whose they are, in the same order. */
  readonly tokens: Float32Array
  /** Whether these are all that there are. */
  readonly isWhole: boolean
  /** Σ e^(l − max l) over all logits. */
  readonly sum: number
  /** Σ e^((l − max l) / temperature) over all logits. */
  readonly sumAtTemperature: number
}

interface Candidate {
  readonly token: number
  readonly logit: number
  /** e^((l − max l) / temperature) */
  readonly weight: number
}

/** null: the token may be one that is not among the largest, or some logit is no number. */
export function drawFrom(best: BestLogits, choice: TokenChoice): ChosenToken | null {
  const largest = best.logits[0] as number
  const normalizer = Math.log(best.sum)
  if (!Number.isFinite(largest) || !Number.isFinite(normalizer)) return null
  const candidates = Array.from(best.logits, (logit, i): Candidate => {
    const weight = Math.exp((logit - largest) * scaleOf(choice))
    return { token: best.tokens[i] as number, logit, weight }
  })
  const kept = likeliest(candidates, best, choice)
  if (kept === null) return null
  // In the order of tokens, as whoever draws from all of them does.
  const ordered = kept.toSorted((a, b) => a.token - b.token)
  let left = choice.uniform * sumOf(ordered)
  const last = ordered.at(-1) as Candidate
  const drawn = ordered.find(({ weight }) => (left -= weight) < 0) ?? last
  return { token: drawn.token, logprob: drawn.logit - largest - normalizer }
}

/** 1 / temperature; a difference of logits times it is a number, or infinite. */
export const scaleOf = ({ temperature }: TokenChoice): number => Math.min(1 / temperature, 3e38)

function likeliest(
  candidates: readonly Candidate[],
  { isWhole, sumAtTemperature }: BestLogits,
  { topK, topP }: TokenChoice,
): readonly Candidate[] | null {
  let kept = candidates
  let isComplete = isWhole
  let total = isWhole ? sumOf(candidates) : sumAtTemperature
  if (topK > 0 && topK <= candidates.length) {
    const last = (candidates[topK - 1] as Candidate).logit
    kept = candidates.filter(({ logit }) => logit >= last)
    // Those that equal the last of them may be drawn too, and may go on beyond what is known.
    isComplete ||= kept.length < candidates.length
    total = isComplete ? sumOf(kept) : total
  }
  if (topK > 0 && !isComplete) return null
  if (topP === 1) return isComplete ? kept : null
  let sum = 0
  const until = kept.findIndex(({ weight }) => (sum += weight) >= topP * total)
  if (until >= 0) return kept.slice(0, until + 1)
  return isComplete ? kept : null
}

const sumOf = (candidates: readonly Candidate[]): number => candidates.reduce((sum, { weight }) => sum + weight, 0)

// Finds a row's next token, or the best of its tokens, from its largest logits and those that rules change, where they are enough to know it.
import { changedLogit, type LogitChanges } from '../logit-changes.ts'
import type { BestTokens, BestWanted, ChosenToken, TokenChoice } from '../runtime.ts'
import { type Candidate, kept, type Ranking, sumOf } from './filters.ts'

/** What the device tells of a row of logits. */
export interface BestLogits {
  /** The largest first, of equals the lower token. */
  readonly logits: Float32Array
  /** Whose they are, in the same order. */
  readonly tokens: Float32Array
  /** Whether these are all that there are. */
  readonly isWhole: boolean
  /** Of the tokens that the function `concerned` names, in their order. */
  readonly concerned: Float32Array
  /** Σ e^(l − max l) over all logits. */
  readonly sum: number
  /** Σ e^((l − max l) / temperature) over all logits. */
  readonly sumAtTemperature: number
  /** Σ (max l − l) / temperature · e^((l − max l) / temperature) over all logits; NaN: unknown. */
  readonly momentAtTemperature: number
}

/** Of a sum in float32 so much must be left when a part of it is taken away. */
const leastRest = 0.05

/** Tokens whose logits must be known, whatever they are. */
export function concerned(wanted: TokenChoice | BestWanted): ArrayLike<number> {
  if ('forced' in wanted && wanted.forced !== undefined) return [wanted.forced]
  return wanted.changes?.tokens ?? []
}

/** null: the token may be one that is not known, or some logit is no number. */
export function drawFrom(best: BestLogits, choice: TokenChoice): ChosenToken | null {
  const normalizer = normalizerOf(best)
  const { alternatives = 0 } = choice
  if (normalizer === null || (alternatives > best.tokens.length && !best.isWhole)) return null
  const drawn = chosenFrom(best, choice)
  if (drawn === null) return null
  const scored = (token: number, logit: number) => ({ token, logprob: logit - normalizer })
  const top = Array.from(best.tokens.subarray(0, alternatives), (token, i) => scored(token, best.logits[i] as number))
  return { ...scored(drawn.token, drawn.logit), ...(alternatives > 0 && { top }) }
}

/** null: too few of the best are known, or some logit is no number. */
export function bestFrom(best: BestLogits, { best: count, changes }: BestWanted): BestTokens | null {
  const normalizer = normalizerOf(best)
  if (normalizer === null) return null
  // Rounded as a row of scores is.
  const scoreOf = (logit: number): number => Math.fround(logit - normalizer)
  const changing = new Set(changes?.tokens)
  const all = Array.from(best.tokens, (token, i) => ({ token, score: scoreOf(best.logits[i] as number) }))
  const known = all.filter(({ token }) => !changing.has(token))
  changes?.tokens.forEach((token, i) => {
    known.push({ token, score: changedLogit(scoreOf(best.concerned[i] as number), changes, i) })
  })
  // What is not known has no higher score than the last of the largest.
  const floor = all.at(-1)?.score ?? -Infinity
  const sure = best.isWhole ? known : known.filter(({ score }) => score > floor)
  if (sure.length < count && !best.isWhole) return null
  return { tokens: sure.map(({ token }) => token), scores: sure.map(({ score }) => score) }
}

/** 1 / temperature; a difference of logits times it is a number, or infinite. Of a greedy choice 1: nothing hangs on it. */
export const scaleOf = ({ temperature }: TokenChoice): number =>
  temperature === 0 ? 1 : Math.min(1 / temperature, 3e38)

/** log Σ e^l; null: some logit is no number. */
function normalizerOf({ logits, sum }: BestLogits): number | null {
  const normalizer = (logits[0] as number) + Math.log(sum)
  return Number.isFinite(normalizer) ? normalizer : null
}

function chosenFrom(best: BestLogits, choice: TokenChoice): Candidate | null {
  const { changes, forced } = choice
  if (forced !== undefined) return { token: forced, logit: best.concerned[0] as number, changed: 0 }
  const scale = scaleOf(choice)
  const ranking = changes === undefined ? asMade(best) : afterChanges(best, changes, scale)
  const [first] = ranking.candidates
  if (first === undefined || !Number.isFinite(first.changed)) return null
  return choice.temperature === 0 ? first : drawnOf(ranking, scale, choice)
}

function asMade({ logits, tokens, isWhole, sumAtTemperature, momentAtTemperature }: BestLogits): Ranking {
  const candidates = Array.from(logits, (logit, i) => ({ token: tokens[i] as number, logit, changed: logit }))
  return { candidates, isWhole, hasEquals: isWhole, sum: sumAtTemperature, moment: momentAtTemperature }
}

/** What is not known is no larger than the last of `best`; what is, and larger than that, is in its right place. */
function afterChanges(best: BestLogits, changes: LogitChanges, scale: number): Ranking {
  const changing = new Set(changes.tokens)
  const others = asMade(best).candidates.filter(({ token }) => !changing.has(token))
  const changed = Array.from(changes.tokens, (token, i): Candidate => {
    const logit = best.concerned[i] as number
    return { token, logit, changed: changedLogit(logit, changes, i) }
  })
  const floor = best.isWhole ? -Infinity : (best.logits.at(-1) as number)
  const candidates = [...others, ...changed]
    .filter((each) => each.changed > floor)
    .toSorted((a, b) => b.changed - a.changed || a.token - b.token)
  const largest = candidates[0]?.changed ?? 0
  const before = best.logits[0] as number
  const depth = (logit: number, from: number): number => (from - logit) * scale
  // Of those that stay as they are, by what they were and by the largest of now.
  const sum = best.sumAtTemperature - sumOf(changed, ({ logit }) => weighed(depth(logit, before)))
  const moment = best.momentAtTemperature - sumOf(changed, ({ logit }) => momentOf(depth(logit, before)))
  const isKnown = sum >= leastRest * best.sumAtTemperature
  const [shift, weight] = [depth(before, largest), weighed(depth(before, largest))]
  return {
    candidates,
    isWhole: best.isWhole,
    hasEquals: true,
    sum: isKnown ? sum * weight + sumOf(changed, (each) => weighed(depth(each.changed, largest))) : null,
    moment: isKnown
      ? weight * (moment + shift * sum) + sumOf(changed, (each) => momentOf(depth(each.changed, largest)))
      : NaN,
  }
}

const weighed = (depth: number): number => Math.exp(-depth)
const momentOf = (depth: number): number => (depth === Infinity ? 0 : depth * Math.exp(-depth))

/** null where it may be another. */
function drawnOf(ranking: Ranking, scale: number, choice: TokenChoice): Candidate | null {
  const left = kept(ranking, scale, choice)
  if (left === null) return null
  const largest = (ranking.candidates[0] as Candidate).changed
  const weightOf = ({ changed }: Candidate): number => weighed((largest - changed) * scale)
  // In the order of tokens, as whoever draws from all of them does.
  const ordered = left.toSorted((a, b) => a.token - b.token)
  let rest = choice.uniform * sumOf(ordered, weightOf)
  return ordered.find((each) => (rest -= weightOf(each)) < 0) ?? (ordered.at(-1) as Candidate)
}

// Which rows' tokens a session may choose where it computes, so that no logits need to come back.
import type { TokenChoice } from '../runtime/runtime.ts'
import type { Continuation } from './generation.ts'

/**
 * null: the engine needs the logits, for rules, for alternatives, for filters that sessions do not have, or for a search.
 * Asking changes nothing: the random number is spent when the token is accepted.
 */
export function choiceOf({ group, rules, decoding, generation, random }: Continuation): TokenChoice | null {
  const { strategy, temperature, topK, topP, minP, typicalP } = decoding
  if (group !== null || rules !== null || (generation.parts.topLogprobs ?? 0) > 0) return null
  if (strategy === 'greedy') return { temperature: 0, topK: 0, topP: 1, uniform: 0 }
  return minP > 0 || typicalP < 1 ? null : { temperature, topK, topP, uniform: random.peek() }
}

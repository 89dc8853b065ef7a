// Which rows' tokens a session may choose where it computes, so that no logits need to come back.
import type { TokenChoice } from '../runtime/runtime.ts'
import type { Continuation } from './generation.ts'
import { changesOf } from './rule-changes.ts'

/**
 * null: the engine needs the logits, for alternatives, for filters that sessions do not have, for a token that is forced, or for a
 * search. Asking changes nothing: the random number is spent when the token is accepted.
 */
export function choiceOf(continuation: Continuation): TokenChoice | null {
  const { group, rules, decoding, generation, random } = continuation
  const { strategy, temperature, topK, topP, minP, typicalP } = decoding
  if (group !== null || (generation.parts.topLogprobs ?? 0) > 0) return null
  if (strategy !== 'greedy' && (minP > 0 || typicalP < 1)) return null
  const changes = rules === null ? undefined : changesOf(rules, continuation)
  if (changes === null) return null
  const choice =
    strategy === 'greedy'
      ? { temperature: 0, topK: 0, topP: 1, uniform: 0 }
      : { temperature, topK, topP, uniform: random.peek() }
  return changes === undefined || changes.tokens.length === 0 ? choice : { ...choice, changes }
}

// What of a row's next token a session is asked for where it computes, so that no logits need to come back.
import type { RowWanted, TokenChoice } from '../runtime/runtime.ts'
import type { Continuation } from './generation.ts'
import { forcedToken } from './logit-rules.ts'
import { changesOf } from './rule-changes.ts'

/** The cheapest that a session can be asked for. */
export const anyToken: TokenChoice = { temperature: 0, topK: 0, topP: 1, uniform: 0 }

/** Asking changes nothing: the random number is spent when the token is accepted. */
export function wantedOf(continuation: Continuation): RowWanted {
  const { group, rules, decoding, generation, random } = continuation
  const forced = rules === null ? null : forcedToken(rules, continuation)
  const ruled = rules === null || forced !== null ? null : changesOf(rules, continuation)
  const changes = ruled !== null && ruled.tokens.length > 0 && { changes: ruled }
  // A search that is forced knows all scores before the step.
  if (group !== null) return forced === null ? { best: 2 * decoding.beams, ...changes } : anyToken
  const { strategy, temperature, topK, topP, minP, typicalP } = decoding
  const { topLogprobs } = generation.parts
  return {
    ...(strategy === 'greedy' ? anyToken : { temperature, topK, topP, uniform: random.peek() }),
    ...(strategy !== 'greedy' && minP > 0 && { minP }),
    ...(strategy !== 'greedy' && typicalP < 1 && { typicalP }),
    ...(topLogprobs !== null && topLogprobs > 0 && { alternatives: topLogprobs }),
    ...(forced === null ? changes : { forced }),
  }
}

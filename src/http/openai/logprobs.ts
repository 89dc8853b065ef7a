// Log-probabilities in the shape of OpenAI's completions: four lists side by side, an entry for each token.
import { Type, type Static } from 'typebox'
import type { Alternative, TokenScore } from '../../engine/request.ts'

export const CompletionLogprobs = Type.Object({
  tokens: Type.Array(Type.String(), { description: 'Texts of the tokens made; what is no whole character is U+FFFD.' }),
  token_logprobs: Type.Array(Type.Number(), { description: 'In nats, before temperature and filters.' }),
  top_logprobs: Type.Array(
    Type.Unsafe<Record<string, number>>({ type: 'object', additionalProperties: { type: 'number' } }),
    {
      description: 'The most probable texts in the place of each token, the one that was taken always among them.',
    },
  ),
  text_offset: Type.Array(Type.Integer({ minimum: 0 }), { description: 'Where each token begins, in characters.' }),
})
export type CompletionLogprobs = Static<typeof CompletionLogprobs>

/** Offsets count from the beginning of the completion. */
export function toLogprobs(scores: readonly TokenScore[]): CompletionLogprobs {
  const offsets: number[] = []
  let end = 0
  for (const { text } of scores) {
    offsets.push(end)
    end += Array.from(text).length
  }
  return {
    tokens: scores.map(({ text }) => text),
    token_logprobs: scores.map(({ logprob }) => logprob),
    top_logprobs: scores.map(byText),
    text_offset: offsets,
  }
}

/** Of tokens with one text, as halves of a character have, the most probable. */
function byText({ top, ...taken }: TokenScore): Record<string, number> {
  const all: readonly Alternative[] = [...top, taken]
  const logprobs: Record<string, number> = {}
  for (const { text, logprob } of all) logprobs[text] = Math.max(logprobs[text] ?? -Infinity, logprob)
  return logprobs
}

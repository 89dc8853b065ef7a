// What is sent and answered when text is generated.
import { Type, type Static } from 'typebox'
import { deadlineMsMax, topLogprobsMax } from '../../engine/check-request.ts'
import type { FinishReason } from '../../engine/request.ts'
import { stopLengthMax, stopTextsMax } from '../../engine/stop-texts.ts'
import { Decoding } from './decoding.ts'
import { inputLengthMax, inputsMax, newTokensMax, prefixReferenceMax, seedMax } from './limits.ts'
import { answer, Nullable, requestBody, Word } from './shared.ts'

export const GenerateBody = requestBody(
  'GenerateRequest',
  {
    prefix: Nullable(Type.String({ maxLength: prefixReferenceMax }), {
      default: null,
      description: 'Id, name (its latest ready version) or name@version; null: the bare model.',
    }),
    input: Type.Unsafe<string | string[]>({
      type: ['string', 'array'],
      maxLength: inputLengthMax,
      minItems: 1,
      maxItems: inputsMax,
      items: { type: 'string', maxLength: inputLengthMax },
      description: 'One text or a list; all go through one batch.',
    }),
    maxNewTokens: Type.Integer({ minimum: 1, maximum: newTokensMax, default: 64 }),
    minNewTokens: Type.Integer({
      minimum: 0,
      maximum: newTokensMax,
      default: 0,
      description: 'The model does not end the text before; a stop text does.',
    }),
    stop: Type.Array(Type.String({ minLength: 1, maxLength: stopLengthMax }), {
      maxItems: stopTextsMax,
      default: [],
      description: 'Texts that end a generation; they are no part of it.',
    }),
    seed: Nullable(Type.Integer({ minimum: 0, maximum: seedMax }), {
      default: null,
      description: 'The same seed gives the same texts; null: drawn at random.',
    }),
    decoding: Decoding,
    logprobs: Type.Boolean({ default: false, description: 'Answer the log-probability of each token, in nats.' }),
    topLogprobs: Nullable(Type.Integer({ minimum: 0, maximum: topLogprobsMax }), {
      default: null,
      description: 'Answer each token with its text and so many alternatives; null: off.',
    }),
    deadlineMs: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: deadlineMsMax,
        description: 'Give up after so many ms, waiting or running.',
      }),
    ),
    stream: Type.Boolean({ default: false, description: 'Answer as server-sent events.' }),
  },
  {
    examples: [
      { prefix: 'e2e', input: 'name : Blue Spice | food : Thai' },
      {
        prefix: 'e2e@1',
        input: ['name : Blue Spice', 'name : The Vaults'],
        decoding: { strategy: 'sample', topP: 0.9, n: 2 },
        seed: 7,
      },
    ],
  },
)
export type GenerateBody = Static<typeof GenerateBody>

const alternative = {
  id: Type.Integer({ description: 'Of the token, in the vocabulary.' }),
  text: Type.String({ description: 'Bytes that are no whole character are U+FFFD.' }),
  logprob: Type.Number({ description: 'In nats, of the model itself: before penalties, temperature and filters.' }),
}
const TokenScore = Type.Object({
  ...alternative,
  top: Type.Array(Type.Object(alternative), { description: 'The most probable tokens in its place, the best first.' }),
})

export const Generated = answer(
  'Generated',
  'The texts and what they took.',
  {
    prefix: Nullable(Type.String(), { description: 'Id of the prefix that was used.' }),
    outputs: Type.Array(
      Type.Object({
        text: Type.String(),
        finishReason: Word(['stop', 'length'] as const satisfies readonly FinishReason[]),
        tokens: Type.Integer({ description: 'Tokens made, the end-of-text token included.' }),
        logprobs: Type.Optional(Type.Array(Type.Number())),
        topLogprobs: Type.Optional(Type.Array(TokenScore, { description: 'One a token.' })),
      }),
      { description: 'In the order of the inputs, n for each; the best first where bestOf or beam chose them.' },
    ),
    usage: Type.Object({ prefixTokens: Type.Integer(), inputTokens: Type.Integer(), outputTokens: Type.Integer() }),
  },
  {
    examples: [
      {
        prefix: 'pfx_0mhxq3v5a7k2m9q4w8r1t6y3',
        outputs: [{ text: 'Blue Spice serves Thai food.', finishReason: 'stop', tokens: 8 }],
        usage: { prefixTokens: 10, inputTokens: 12, outputTokens: 8 },
      },
    ],
  },
)
export type Generated = Static<typeof Generated>

export const GeneratedStream = Type.String({
  description:
    '`token` events carry {index, text}, a piece of output `index`; `done` carries the object that is answered ' +
    'without streaming and is the last; `error` carries a problem document and is the last.',
  examples: ['event: token\ndata: {"index":0,"text":"Blue"}\n\n'],
})

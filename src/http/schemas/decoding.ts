// How tokens are chosen, as requests say it: the same for generating and for evaluating.
import { Type, type Static } from 'typebox'
import { bannedLengthMax, bannedMax, beamsMax, biasedMax, biasMax } from '../../engine/check-request.ts'
import { penaltyMax, textsMadeMax, textsMax } from './limits.ts'
import { Word, withoutDefaulted } from './shared.ts'

const tokenMax = 1_000_000
const ngramMax = 64
const forBeam = 'For beam.'
const penalty = { minimum: -penaltyMax, maximum: penaltyMax, default: 0 }
const token = Type.Integer({ minimum: 0, maximum: tokenMax })

export const Decoding = withoutDefaulted(
  {
    strategy: Word(['greedy', 'sample', 'beam'], { default: 'greedy' }),
    temperature: Type.Number({ exclusiveMinimum: 0, maximum: 10, default: 1, description: 'For sample.' }),
    topK: Type.Integer({ minimum: 0, maximum: 1_000_000, default: 0, description: 'For sample. 0: off.' }),
    topP: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 1, description: 'For sample. 1: off.' }),
    minP: Type.Number({
      minimum: 0,
      maximum: 1,
      default: 0,
      description: 'For sample: keeps tokens so many times as probable as the most probable one. 0: off.',
    }),
    typicalP: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 1, description: 'For sample. 1: off.' }),
    repetitionPenalty: Type.Number({ minimum: 0.01, maximum: 100, default: 1, description: '1: off.' }),
    presencePenalty: Type.Number({ ...penalty, description: 'Off the logits of tokens that were made before.' }),
    frequencyPenalty: Type.Number({ ...penalty, description: 'The same, as many times as they were made.' }),
    noRepeatNgramSize: Type.Integer({
      minimum: 0,
      maximum: ngramMax,
      default: 0,
      description: 'So many tokens in a row come once, those of the prompt included. 0: off.',
    }),
    bannedTexts: Type.Array(Type.String({ minLength: 1, maxLength: bannedLengthMax }), {
      maxItems: bannedMax,
      default: [],
      description: 'Not made as the tokens that the tokenizer has for them, at a beginning or behind a space.',
    }),
    bannedTokens: Type.Array(Type.Array(token, { minItems: 1, maxItems: bannedLengthMax }), {
      maxItems: bannedMax,
      default: [],
      description: 'Sequences of token ids that are not made.',
    }),
    logitBias: Type.Unsafe<Record<string, number>>({
      type: 'object',
      propertyNames: { pattern: '^[0-9]{1,7}$' },
      additionalProperties: { type: 'number', minimum: -biasMax, maximum: biasMax },
      maxProperties: biasedMax,
      default: {},
      description: 'Added to the logits of tokens, by id.',
    }),
    n: Type.Integer({ minimum: 1, maximum: textsMax, default: 1, description: 'Texts for each input.' }),
    bestOf: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: textsMadeMax,
        description: 'For sample: texts made, of which the n most probable are answered. Default: n.',
      }),
    ),
    beams: Type.Optional(Type.Integer({ minimum: 1, maximum: beamsMax, description: `${forBeam} Default: 5.` })),
    lengthPenalty: Type.Optional(
      Type.Number({ minimum: -10, maximum: 10, description: `${forBeam} Scores are divided by length to its power.` }),
    ),
    earlyStopping: Type.Optional(
      Type.Unsafe<boolean | 'never'>({
        enum: [true, false, 'never'],
        description: `${forBeam} true: ends with as many texts as beams. Default: false.`,
      }),
    ),
  },
  { default: {} },
)
export type DecodingBody = Static<typeof Decoding>

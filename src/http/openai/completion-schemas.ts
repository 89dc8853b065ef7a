// What is sent and answered by OpenAI's completions.
import { Type, type Static } from 'typebox'
import { stopLengthMax, stopTextsMax } from '../../engine/stop-texts.ts'
import {
  inputLengthMax,
  inputsMax,
  newTokensMax,
  penaltyMax,
  prefixReferenceMax,
  seedMax,
  textsMadeMax,
  textsMax,
} from '../schemas/limits.ts'
import { answer, Nullable, requestBody, Word } from '../schemas/shared.ts'
import { CompletionLogprobs } from './logprobs.ts'

/** Theirs, not ours. */
export const maxTokensDefault = 16

const penalty = { minimum: -penaltyMax, maximum: penaltyMax }

export const CompletionBody = requestBody(
  'OpenAICompletionRequest',
  {
    model: Type.String({
      maxLength: prefixReferenceMax,
      description: 'Id, name (its latest ready version) or name@version of a prefix, or the name of the bare model.',
    }),
    prompt: Type.Unsafe<string | string[]>({
      type: ['string', 'array'],
      maxLength: inputLengthMax,
      minItems: 1,
      maxItems: inputsMax,
      items: { type: 'string', maxLength: inputLengthMax },
      description: "A text or a list of texts, each put into the prefix's template. Token ids are not taken.",
    }),
    max_tokens: Nullable(Type.Integer({ minimum: 1, maximum: newTokensMax }), {
      default: null,
      description: `null: ${maxTokensDefault}.`,
    }),
    temperature: Nullable(Type.Number({ minimum: 0, maximum: 2 }), {
      default: null,
      description: '0: greedy; null: 1.',
    }),
    top_p: Nullable(Type.Number({ exclusiveMinimum: 0, maximum: 1 }), { default: null, description: 'null: 1, off.' }),
    n: Nullable(Type.Integer({ minimum: 1, maximum: textsMax }), {
      default: null,
      description: 'Texts for each prompt; null: 1.',
    }),
    stop: Type.Unsafe<string | string[] | null>({
      type: ['string', 'array', 'null'],
      minLength: 1,
      maxLength: stopLengthMax,
      maxItems: stopTextsMax,
      items: { type: 'string', minLength: 1, maxLength: stopLengthMax },
      default: null,
      description: 'Texts that end a completion; they are no part of it.',
    }),
    seed: Nullable(Type.Integer({ minimum: 0, maximum: seedMax }), {
      default: null,
      description: 'The same seed gives the same texts; null: drawn at random.',
    }),
    echo: Nullable(Type.Boolean(), { default: null, description: 'Answer the prompt before its completion.' }),
    stream: Nullable(Type.Boolean(), { default: null, description: 'Answer as server-sent events.' }),
    stream_options: Nullable(
      Type.Object(
        {
          include_usage: Type.Optional(Nullable(Type.Boolean())),
          include_obfuscation: Type.Optional(Nullable(Type.Boolean(), { description: 'Taken and not acted on.' })),
        },
        { additionalProperties: false },
      ),
      { default: null },
    ),
    user: Nullable(Type.String({ maxLength: 512 }), { default: null, description: 'Taken and not acted on.' }),
    logprobs: Nullable(Type.Integer({ minimum: 0, maximum: 5 }), {
      default: null,
      description: 'Answer log-probabilities, of so many alternatives beside each token; null: none.',
    }),
    presence_penalty: Nullable(Type.Number(penalty), { default: null }),
    frequency_penalty: Nullable(Type.Number(penalty), { default: null }),
    logit_bias: Nullable(
      Type.Unsafe<Record<string, number>>({ type: 'object', additionalProperties: { type: 'number' } }),
      {
        default: null,
        description: 'Added to logits, by token id.',
      },
    ),
    best_of: Nullable(Type.Integer({ minimum: 1, maximum: textsMadeMax }), {
      default: null,
      description: 'Texts made for each prompt; the `n` most probable are answered.',
    }),
    // Refused by name where it would change the answer: see unsupported.ts.
    suffix: Nullable(Type.String({ maxLength: inputLengthMax }), { default: null, description: 'Empty alone.' }),
  },
  { examples: [{ model: 'e2e@1', prompt: 'name : Blue Spice | food : Thai', max_tokens: 64, temperature: 0 }] },
)
export type CompletionBody = Static<typeof CompletionBody>

const Usage = Type.Object({
  prompt_tokens: Type.Integer({ description: 'Of the prompts in their template; a prefix has none.' }),
  completion_tokens: Type.Integer({ description: 'Tokens made, the end-of-text tokens included.' }),
  total_tokens: Type.Integer(),
})

export const Completion = answer('OpenAICompletion', 'The completions and what they took.', {
  id: Type.String({ examples: ['cmpl-5f0c8f2e7b8e4f0e9a431d7c2f6a9b11'] }),
  object: Word(['text_completion']),
  created: Type.Integer({ description: 'In seconds since 1970.' }),
  model: Type.String({ description: 'What was used: a name stands for its latest version.' }),
  system_fingerprint: Type.String({ description: 'Of the frozen model.' }),
  choices: Type.Array(
    Type.Object({
      text: Type.String(),
      index: Type.Integer({ description: 'In the order of the prompts, n for each.' }),
      logprobs: Nullable(CompletionLogprobs),
      finish_reason: Nullable(Word(['stop', 'length'])),
    }),
  ),
  usage: Type.Optional(Nullable(Usage)),
})
export type Completion = Static<typeof Completion>

export const CompletionStream = Type.String({
  description:
    'Events without a name whose data is a completion with a piece of text; the last of each choice has its ' +
    '`finish_reason`. With `include_usage` one with the usage follows. The end is `data: [DONE]`, or an error.',
  examples: ['data: {"id":"cmpl-1","object":"text_completion","choices":[{"text":"Blue","index":0}]}\n\n'],
})

// What is sent and answered when a prefix is evaluated.
import { Type, type Static } from 'typebox'
import type { Evaluation } from '../../prefix/evaluations.ts'
import { Decoding } from './decoding.ts'
import { idLengthMax, newTokensMax, seedMax } from './limits.ts'
import { Anything, answer, Nullable, requestBody, withoutDefaulted } from './shared.ts'

/** Inputs of one evaluation: each is generated from up to three times. */
export const evaluatedInputsMax = 2_000
const referencesMax = 32

const Item = withoutDefaulted({
  input: Type.String(),
  output: Type.Optional(Type.String({ description: 'Either this or `outputs`.' })),
  outputs: Type.Optional(
    Type.Array(Type.String(), { minItems: 1, maxItems: referencesMax, description: 'Several references.' }),
  ),
})
export type EvaluateItem = Static<typeof Item>

const examples = [
  {
    input: 'name : Blue Spice | food : Thai',
    outputs: ['Blue Spice serves Thai food.', 'Blue Spice is a Thai place.'],
  },
]

export const EvaluateBody = requestBody(
  'EvaluateRequest',
  {
    examples: Type.Optional(Type.Array(Item, { description: 'Either these or `dataset`.' })),
    dataset: Type.Optional(
      Type.String({
        maxLength: idLengthMax,
        description: 'Id from POST /datasets. Equal inputs are one, with several references.',
      }),
    ),
    maxNewTokens: Type.Integer({ minimum: 1, maximum: newTokensMax, default: 64 }),
    decoding: Decoding,
    seed: Type.Integer({
      minimum: 0,
      maximum: seedMax,
      default: 1,
      description: 'Draws the examples of the prompt, and the texts where the strategy is sample.',
    }),
    baselines: Type.Boolean({
      default: true,
      description: 'Measure the bare model too: alone, and with training examples of the prefix in its prompt.',
    }),
  },
  { examples: [{ examples, maxNewTokens: 64 }] },
)
export type EvaluateBody = Static<typeof EvaluateBody>

export const AcceptedEvaluation = answer('AcceptedEvaluation', 'The evaluation is in line.', {
  jobId: Type.String({ examples: ['job_0mhxq3v5a7k2m9q4w8r1t6y3'] }),
  prefixId: Type.String({ examples: ['pfx_0mhxq3v5a7k2m9q4w8r1t6y3'] }),
})

const metrics = Type.Unsafe<Record<string, number>>({
  type: 'object',
  additionalProperties: { type: 'number' },
  description: 'Scores by name, over all examples.',
  examples: [{ bleu: 43.1 }],
})

const EvaluationSchema = Type.Object(
  {
    jobId: Type.String(),
    prefixId: Type.String(),
    createdAt: Type.String({ description: 'ISO 8601, UTC.' }),
    datasetId: Type.String(),
    examples: Type.Integer({ description: 'Inputs that were scored.' }),
    references: Type.Integer({ description: 'Of these, all together.' }),
    skipped: Type.Integer({ description: 'Inputs that have no room in the model beside prefix and new tokens.' }),
    maxNewTokens: Type.Integer(),
    seed: Type.Integer(),
    decoding: Anything(),
    loss: Nullable(Type.Number(), { description: 'Of the prefix, per target token, in nats.' }),
    prefix: Type.Object({ metrics }),
    bare: Nullable(Type.Object({ metrics }), { description: 'The bare model with the same prompts.' }),
    fewShot: Nullable(
      Type.Object({
        metrics,
        promptExamples: Type.Integer({ description: 'Where the context had room for all.' }),
        promptExamplesMean: Type.Number({ description: 'As many as fitted, on the average.' }),
      }),
      { description: 'The bare model with training examples of the prefix before the prompt.' },
    ),
    samples: Type.Array(
      Type.Object({
        input: Type.String(),
        references: Type.Array(Type.String()),
        prefix: Type.String(),
        bare: Nullable(Type.String()),
        fewShot: Nullable(Type.String()),
      }),
      { description: 'The first inputs and what each system made of them.' },
    ),
  },
  { additionalProperties: false },
)

export const EvaluationList = answer('EvaluationList', 'The last evaluations of a prefix, the newest first.', {
  data: Type.Array(EvaluationSchema),
})

/** The same; schemas have no word for what is read only. */
export function toAnswer({ samples, ...evaluation }: Evaluation): Static<typeof EvaluationSchema> {
  const { decoding, prefix, bare, fewShot } = evaluation
  return {
    ...evaluation,
    decoding: { ...decoding },
    prefix: { metrics: { ...prefix.metrics } },
    bare: bare && { metrics: { ...bare.metrics } },
    fewShot: fewShot && { ...fewShot, metrics: { ...fewShot.metrics } },
    samples: samples.map((sample) => ({ ...sample, references: [...sample.references] })),
  }
}

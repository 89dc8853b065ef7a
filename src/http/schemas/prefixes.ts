// What is sent and answered about prefixes and datasets.
import { Type, type Static } from 'typebox'
import { templateCharactersMax } from '../../prefix/artifact.ts'
import type { PrefixStatus } from '../../prefix/record.ts'
import { defaultTemplate } from '../../prefix/template.ts'
import { idLengthMax, prefixReferenceMax, validationShareDefault, validationShareMax } from './limits.ts'
import { Anything, answer, JobError, Next, Nullable, pageQuery, requestBody, Word } from './shared.ts'
import { Training } from './training.ts'

export const Name = Type.String({
  // Ids begin with pfx_, so that a name is never taken for one.
  pattern: '^(?!pfx_)[a-z0-9][a-z0-9_.-]{0,62}$',
  description: 'Lower case; a name may get new versions.',
  examples: ['e2e'],
})

const example = { input: 'name : Blue Spice | food : Thai', output: 'Blue Spice serves Thai food.' }

/** Open, as what is wrong with an example is reported by its number, with everything else that is wrong with it. */
const ExampleItem = Type.Object({ input: Type.String(), output: Type.String() }, { examples: [example] })

export const TrainBody = requestBody(
  'TrainRequest',
  {
    name: Nullable(Name, { default: null }),
    examples: Type.Optional(Type.Array(ExampleItem, { description: 'Either these or `dataset`.' })),
    dataset: Type.Optional(Type.String({ maxLength: idLengthMax, description: 'Id from POST /datasets.' })),
    from: Nullable(Type.String({ maxLength: prefixReferenceMax }), {
      default: null,
      description:
        'Id, name (its latest version that is ready) or name@version of a prefix whose keys and values the new one starts from.',
    }),
    template: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: templateCharactersMax,
        description: `How an input becomes the prompt; {input} stands in it once. Left out: that of \`from\`, or ${JSON.stringify(defaultTemplate)}; of a model with an encoder "{input}".`,
      }),
    ),
    validation: Type.Unsafe<number | Static<typeof ExampleItem>[]>({
      type: ['number', 'array'],
      minimum: 0,
      maximum: validationShareMax,
      items: ExampleItem,
      default: validationShareDefault,
      description: 'Share of the examples never trained on, or a list of such examples, or 0.',
    }),
    training: Training,
  },
  {
    examples: [{ name: 'e2e', examples: [example], validation: 0, training: { prefixLength: 10, epochs: 5 } }],
  },
)
export type TrainBody = Static<typeof TrainBody>

const prefixStatuses = ['queued', 'training', 'ready', 'failed', 'cancelled'] as const satisfies readonly PrefixStatus[]
const Status = Word(prefixStatuses)
const Id = Type.String({ examples: ['pfx_0mhxq3v5a7k2m9q4w8r1t6y3'] })
const Version = Nullable(Type.Integer(), { description: '1, 2, … under its name; null without one.' })

export const Accepted = answer('AcceptedPrefix', 'The training is in line.', {
  id: Id,
  name: Nullable(Type.String()),
  version: Version,
  status: Status,
  jobId: Type.String({ examples: ['job_0mhxq3v5a7k2m9q4w8r1t6y3'] }),
})

export const PrefixSchema = answer('Prefix', 'A prefix: what is known of it from the moment it is asked for.', {
  id: Id,
  name: Nullable(Type.String()),
  version: Version,
  status: Status,
  jobId: Nullable(Type.String()),
  createdAt: Type.String(),
  updatedAt: Type.String(),
  model: Type.Object({ name: Type.String(), sha256: Type.String() }),
  tokenizerSha256: Type.String(),
  template: Type.String(),
  prefixLength: Type.Integer(),
  bytes: Nullable(Type.Integer(), { description: 'Of the artifact; null until it is ready.' }),
  artifactSha256: Nullable(Type.String()),
  training: Anything({ description: 'Options: as asked until it is ready, as used from then on.' }),
  dataset: Nullable(Type.Object({ id: Type.String(), sha256: Type.String(), examples: Type.Integer() })),
  validation: Type.Unsafe<number | string | null>({
    type: ['number', 'string', 'null'],
    description: 'Share of the dataset held out, or the dataset that was; null where it was imported.',
  }),
  step: Type.Integer(),
  steps: Nullable(Type.Integer()),
  loss: Nullable(Type.Number(), { description: 'Per target token, in nats.' }),
  validationLoss: Nullable(Type.Number(), { description: 'On held-out examples, per target token, in nats.' }),
  metrics: Type.Unsafe<Record<string, number>>({
    type: 'object',
    additionalProperties: { type: 'number' },
    description: 'Scores of the latest evaluation, and the number of `examples` behind them.',
  }),
  samples: Type.Array(Type.Object({ input: Type.String(), reference: Type.String(), output: Type.String() }), {
    description: 'Held-out examples and what the prefix makes of them.',
  }),
  error: JobError,
  fineTuning: Nullable(
    Type.Object({
      model: Type.String(),
      trainingFile: Type.String(),
      validationFile: Nullable(Type.String()),
      learningRateMultiplier: Nullable(Type.Number()),
      metadata: Nullable(Anything()),
    }),
    { description: 'What the fine-tuning job was asked with; null where it was asked for by POST /prefixes.' },
  ),
})

export const PrefixPage = answer('PrefixPage', 'A page of prefixes.', { data: Type.Array(PrefixSchema), next: Next })
export const PrefixQuery = Type.Object(
  {
    ...pageQuery,
    name: Type.Optional(Type.String({ maxLength: idLengthMax, description: 'Versions of this name only.' })),
  },
  { additionalProperties: false },
)

export const PrefixParams = Type.Object({
  idOrName: Type.String({ description: 'Id, name (its latest version) or name@version.' }),
})

export const ArtifactQuery = Type.Object(
  {
    format: Word(['safetensors', 'peft'], {
      default: 'safetensors',
      description: "`peft`: PEFT's two files as a zip.",
    }),
  },
  { additionalProperties: false },
)

export const Dataset = answer('Dataset', 'Stored examples.', {
  id: Type.String({ examples: ['ds_9f86d081884c7d659a2feaa0c55ad015'] }),
  sha256: Type.String(),
  examples: Type.Integer(),
})

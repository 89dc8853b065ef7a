// What is sent and answered about prefixes and datasets.
import { Type, type Static } from 'typebox'
import type { PrefixStatus } from '../../prefix/record.ts'
import { defaultTemplate } from '../../prefix/template.ts'
import { Anything, answer, JobError, Next, Nullable, pageQuery, requestBody, Word, withoutDefaulted } from './shared.ts'

/** In UTF-16 units. */
export const templateLengthMax = 4_096
export const validationShareMax = 0.9

export const Name = Type.String({
  // Ids begin with pfx_, so that a name is never taken for one.
  pattern: '^(?!pfx_)[a-z0-9][a-z0-9_.-]{0,62}$',
  description: 'Lower case; a name may get new versions.',
  examples: ['e2e'],
})

const example = { input: 'name : Blue Spice | food : Thai', output: 'Blue Spice serves Thai food.' }

/** Open, as what is wrong with an example is reported by its number, with everything else that is wrong with it. */
const ExampleItem = Type.Object({ input: Type.String(), output: Type.String() }, { examples: [example] })

const Training = withoutDefaulted(
  {
    prefixLength: Type.Integer({ minimum: 1, maximum: 1_024, default: 10, description: 'P, in virtual tokens.' }),
    epochs: Type.Integer({ minimum: 1, maximum: 10_000, default: 5, description: 'Used where `steps` is null.' }),
    steps: Nullable(Type.Integer({ minimum: 1, maximum: 10_000_000 }), {
      default: null,
      description: 'Optimizer steps in all; null: as many as the epochs make.',
    }),
    batchSize: Type.Integer({ minimum: 1, maximum: 1_024, default: 10, description: 'Examples in a step.' }),
    learningRate: Nullable(Type.Number({ exclusiveMinimum: 0, maximum: 10 }), {
      default: null,
      description: 'At the start, falling to 0 in a line; null: chosen.',
    }),
    reparametrization: Nullable(Type.Integer({ minimum: 0, maximum: 8_192 }), {
      default: null,
      description: 'Width of the network that makes the prefix in training; 0: none; null: chosen.',
    }),
    initialization: Type.String({
      pattern: '^(random|text:[^]*\\S[^]*)$',
      maxLength: 1_000,
      default: 'text:table to text',
      description: '`text:WORDS` starts from what the words give in the frozen model; `random` does not.',
    }),
    seed: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 1 }),
    lossReduction: Word(['sum', 'mean'], { default: 'sum', description: 'Over the target tokens of an example.' }),
    precision: Word(['float32', 'fast'], {
      default: 'float32',
      description: 'Of products with frozen weights while training: `fast` is 8 bits, where the machine is faster so.',
    }),
  },
  { default: {}, description: 'Everything has a default that works.' },
)

export const TrainBody = requestBody(
  'TrainRequest',
  {
    name: Nullable(Name, { default: null }),
    examples: Type.Optional(Type.Array(ExampleItem, { description: 'Either these or `dataset`.' })),
    dataset: Type.Optional(Type.String({ maxLength: 64, description: 'Id from POST /datasets.' })),
    template: Type.String({
      minLength: 1,
      maxLength: templateLengthMax,
      default: defaultTemplate,
      description: 'How an input becomes the prompt; {input} stands in it once.',
    }),
    validation: Type.Unsafe<number | Static<typeof ExampleItem>[]>({
      type: ['number', 'array'],
      minimum: 0,
      maximum: validationShareMax,
      items: ExampleItem,
      default: 0.1,
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
  step: Type.Integer(),
  steps: Nullable(Type.Integer()),
  loss: Nullable(Type.Number(), { description: 'Per target token, in nats.' }),
  validationLoss: Nullable(Type.Number(), { description: 'On held-out examples, per target token, in nats.' }),
  metrics: Type.Unsafe<Record<string, number>>({ type: 'object', additionalProperties: { type: 'number' } }),
  samples: Type.Array(Type.Object({ input: Type.String(), reference: Type.String(), output: Type.String() }), {
    description: 'Held-out examples and what the prefix makes of them.',
  }),
  error: JobError,
})

export const PrefixPage = answer('PrefixPage', 'A page of prefixes.', { data: Type.Array(PrefixSchema), next: Next })
export const PrefixQuery = Type.Object(
  { ...pageQuery, name: Type.Optional(Type.String({ maxLength: 64, description: 'Versions of this name only.' })) },
  { additionalProperties: false },
)

export const PrefixParams = Type.Object({
  idOrName: Type.String({ description: 'Id, name (its latest version) or name@version.' }),
})

export const ArtifactQuery = Type.Object(
  { format: Word(['safetensors', 'peft'], { default: 'safetensors', description: '`peft` is not supported yet.' }) },
  { additionalProperties: false },
)

export const Dataset = answer('Dataset', 'Stored examples.', {
  id: Type.String({ examples: ['ds_9f86d081884c7d659a2feaa0c55ad015'] }),
  sha256: Type.String(),
  examples: Type.Integer(),
})

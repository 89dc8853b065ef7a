// What is sent and answered about fine-tuning jobs.
import { Type, type Static } from 'typebox'
import { templateCharactersMax } from '../../prefix/artifact.ts'
import {
  idLengthMax,
  pageLengthDefault,
  pageLengthMax,
  prefixReferenceMax,
  seedMax,
  validationShareDefault,
  validationShareMax,
} from '../schemas/limits.ts'
import { Name } from '../schemas/prefixes.ts'
import { Anything, answer, Nullable, requestBody, withoutDefaulted, Word } from '../schemas/shared.ts'
import { CommonHyperparameters, PrefixHyperparameters } from './hyperparameters.ts'

const FileId = Type.String({ maxLength: idLengthMax, description: 'Of an uploaded file, or of a dataset.' })
const metadataMax = 16

const Method = Type.Object(
  {
    type: Word(['prefix', 'supervised'], { description: '`supervised` is the same with the fields that OpenAI has.' }),
    prefix: Type.Optional(
      withoutDefaulted({
        hyperparameters: PrefixHyperparameters,
        template: Nullable(Type.String({ minLength: 1, maxLength: templateCharactersMax }), {
          default: null,
          description: 'How a prompt is put to the model; {input} stands in it once.',
        }),
        validation_split: Type.Number({
          minimum: 0,
          maximum: validationShareMax,
          default: validationShareDefault,
          description: 'Share of the examples never trained on, where there is no `validation_file`.',
        }),
      }),
    ),
    supervised: Type.Optional(withoutDefaulted({ hyperparameters: CommonHyperparameters })),
  },
  { additionalProperties: false },
)

export const FineTuningBody = requestBody(
  'OpenAIFineTuningRequest',
  {
    model: Type.String({ maxLength: prefixReferenceMax, description: 'The bare model, or a prefix to go on from.' }),
    training_file: FileId,
    validation_file: Nullable(FileId, { default: null }),
    suffix: Nullable(Name, { default: null, description: 'Name of the prefix; null: it has an id alone.' }),
    seed: Nullable(Type.Integer({ minimum: 0, maximum: seedMax }), {
      default: null,
      description: 'null: 1.',
    }),
    method: Nullable(Method, { default: null }),
    hyperparameters: Nullable(CommonHyperparameters, { default: null, description: 'The older place of `method`.' }),
    metadata: Nullable(
      Type.Unsafe<Record<string, string>>({
        type: 'object',
        maxProperties: metadataMax,
        propertyNames: { maxLength: 64 },
        additionalProperties: { type: 'string', maxLength: 512 },
      }),
      { default: null, description: 'Kept, and answered with the job.' },
    ),
    integrations: Nullable(Type.Array(Type.Unknown(), { maxItems: 0 }), {
      default: null,
      description: 'None are had.',
    }),
  },
  {
    examples: [
      {
        model: 'preamble-e2e',
        training_file: 'file-0mhxq3v5a7k2m9q4w8r1t6y3',
        suffix: 'e2e',
        method: { type: 'prefix', prefix: { hyperparameters: { prefix_length: 10, n_epochs: 'auto' } } },
      },
    ],
  },
)
export type FineTuningBody = Static<typeof FineTuningBody>

const Seconds = Type.Integer({ description: 'Since 1970.' })

export const FineTuningJob = answer('OpenAIFineTuningJob', 'A training of a prefix.', {
  id: Type.String({ description: 'The job of GET /jobs.', examples: ['job_0mhxq3v5a7k2m9q4w8r1t6y3'] }),
  object: Word(['fine_tuning.job']),
  model: Type.String({ description: 'What it goes on from.' }),
  created_at: Seconds,
  finished_at: Nullable(Type.Integer()),
  estimated_finish: Nullable(Type.Integer()),
  fine_tuned_model: Nullable(Type.String(), { description: 'null until it has succeeded.' }),
  organization_id: Type.String(),
  status: Word(['validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled'], {
    description: 'Never `validating_files`: files are read when they are uploaded.',
  }),
  training_file: Type.String({ description: 'Empty where the prefix was deleted.' }),
  validation_file: Nullable(Type.String()),
  result_files: Type.Array(Type.String()),
  trained_tokens: Nullable(Type.Integer(), { description: 'Of all steps; null until it has succeeded.' }),
  seed: Type.Integer(),
  error: Nullable(Type.Object({ code: Type.String(), message: Type.String(), param: Nullable(Type.String()) }), {
    description: 'Why it failed.',
  }),
  hyperparameters: Anything({ description: 'Those that OpenAI has: as used, or "auto".' }),
  method: Anything({ description: 'All of them, as used, or "auto".' }),
  metadata: Nullable(Anything()),
  integrations: Type.Array(Type.Unknown()),
})
export type FineTuningJob = Static<typeof FineTuningJob>

export const FineTuningJobList = answer('OpenAIFineTuningJobList', 'A page of jobs, the newest first.', {
  object: Word(['list']),
  data: Type.Array(FineTuningJob),
  has_more: Type.Boolean(),
})

export const FineTuningEvent = answer('OpenAIFineTuningEvent', 'Something that happened to a job.', {
  id: Type.String({ examples: ['ftevent-0mhxq3v5a7k2m9q4w8r1t6y3-7'] }),
  object: Word(['fine_tuning.job.event']),
  created_at: Seconds,
  level: Word(['info', 'warn', 'error']),
  message: Type.String(),
  type: Word(['message', 'metrics']),
  data: Anything({ description: 'What the event of GET /jobs/{id}/events has.' }),
})
export type FineTuningEvent = Static<typeof FineTuningEvent>

export const FineTuningEventList = answer('OpenAIFineTuningEventList', 'A page of events, the newest first.', {
  object: Word(['list']),
  data: Type.Array(FineTuningEvent),
  has_more: Type.Boolean(),
})

export const CheckpointList = answer('OpenAICheckpointList', 'No checkpoint of a training can be generated with.', {
  object: Word(['list']),
  data: Type.Array(Type.Unknown(), { maxItems: 0 }),
  has_more: Type.Boolean(),
  first_id: Type.Null(),
  last_id: Type.Null(),
})

export const FineTuningParams = Type.Object({ id: Type.String({ description: 'Of the job.' }) })
export const FineTuningQuery = Type.Object(
  {
    limit: Type.Integer({
      minimum: 1,
      maximum: pageLengthMax,
      default: pageLengthDefault,
      description: 'Length of the page.',
    }),
    after: Type.Optional(Type.String({ maxLength: idLengthMax, description: 'The last one of the page before.' })),
  },
  { additionalProperties: false },
)

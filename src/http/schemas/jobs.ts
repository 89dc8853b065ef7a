// What is answered about jobs.
import { Type } from 'typebox'
import type { JobStatus, JobType } from '../../jobs/job.ts'
import { answer, JobError, Next, Nullable, pageQuery, Word } from './shared.ts'

const statuses = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const satisfies readonly JobStatus[]

const Time = Type.String({ description: 'ISO 8601, UTC.', examples: ['2026-11-24T08:15:30.000Z'] })

const TrainingProgress = Type.Object({
  step: Type.Integer({ description: 'Steps done.' }),
  steps: Type.Integer(),
  loss: Type.Number({ description: "Per target token of this step's batch, in nats." }),
  validationLoss: Nullable(Type.Number()),
  tokensPerSecond: Type.Number(),
  examplesPerSecond: Type.Number(),
  etaMs: Type.Number({ description: 'Time left, in milliseconds.' }),
  choosing: Type.Optional(
    Type.Object(
      { done: Type.Integer(), total: Type.Integer() },
      { description: 'While options are being chosen and no step counts yet: steps of the candidates.' },
    ),
  ),
})

const EvaluationProgress = Type.Object({
  example: Type.Integer({ description: 'Texts made.' }),
  examples: Type.Integer({ description: 'Texts to make, those of the baselines included.' }),
  etaMs: Type.Number({ description: 'Time left, in milliseconds.' }),
})

const types = ['train', 'evaluate'] as const satisfies readonly JobType[]

export const JobSchema = answer('Job', 'A training or an evaluation that waits, runs or has ended.', {
  id: Type.String({ examples: ['job_0mhxq3v5a7k2m9q4w8r1t6y3'] }),
  type: Word(types),
  status: Word(statuses),
  prefixId: Type.String(),
  progress: Type.Union([TrainingProgress, EvaluationProgress, Type.Null()], {
    description: 'Of a training, or of an evaluation; null before the first report.',
  }),
  attempts: Type.Integer({ description: 'Times it was started.' }),
  error: JobError,
  createdAt: Time,
  startedAt: Nullable(Time),
  finishedAt: Nullable(Time),
})

export const JobPageSchema = answer('JobPage', 'A page of jobs.', { data: Type.Array(JobSchema), next: Next })
export const JobQuery = Type.Object(
  { ...pageQuery, status: Type.Optional(Word(statuses)) },
  { additionalProperties: false },
)
export const JobParams = Type.Object({ id: Type.String() })

export const JobEventHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ pattern: '^[0-9]{0,15}$', description: 'Events up to this one are not sent again.' }),
  ),
})

export const JobEventStream = Type.String({
  description:
    'Numbered events: `started`, `progress`, and one of `succeeded`, `failed`, `cancelled`, which is the last. ' +
    'A stream that breaks goes on where it was with Last-Event-ID.',
  examples: ['id: 2\nevent: progress\ndata: {"step":10,"steps":150,"loss":2.31}\n\n'],
})

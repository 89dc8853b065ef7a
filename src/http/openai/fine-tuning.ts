// /v1/fine_tuning/jobs: trainings of prefixes, asked for, followed and cancelled the way of OpenAI.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ServiceError } from '../../errors/errors.ts'
import type { Job, TrainJobData } from '../../jobs/job.ts'
import type { HttpParts } from '../parts.ts'
import { findJob } from '../routes/jobs.ts'
import { startTraining } from '../routes/train.ts'
import { readNumbers } from '../validation.ts'
import { openaiErrors } from './errors.ts'
import { recordOf, toFineTuningEvents, toFineTuningJob } from './fine-tuning-job.ts'
import { readFineTuning, renamePointers } from './fine-tuning-request.ts'
import {
  CheckpointList,
  FineTuningBody,
  FineTuningEventList,
  FineTuningJob,
  FineTuningJobList,
  FineTuningParams,
  FineTuningQuery,
} from './fine-tuning-schemas.ts'
import type { Shared } from './shared.ts'

type Watched = Pick<Shared, 'observations'>

export function fineTuningRoutes(parts: HttpParts, watched: Watched): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(jobRoutes(parts, watched))
    await app.register(historyRoutes(parts))
  }
}

function jobRoutes(parts: HttpParts, { observations }: Watched): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/fine_tuning/jobs',
      {
        schema: {
          operationId: 'openaiCreateFineTuningJob',
          summary: 'Train a prefix on an uploaded file',
          tags: ['openai'],
          body: FineTuningBody,
          response: { 200: FineTuningJob, ...openaiErrors(400, 404, 413, 415, 503, 507) },
        },
      },
      (request) => createJob(request.body, parts, observations.traceOf(request)),
    )

    app.get(
      '/fine_tuning/jobs',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'openaiListFineTuningJobs',
          summary: 'List trainings, the newest first',
          tags: ['openai'],
          querystring: FineTuningQuery,
          response: { 200: FineTuningJobList, ...openaiErrors(400, 503) },
        },
      },
      async ({ query: { limit, after } }) => {
        const { jobs, hasMore } = await listTrainings(parts, limit, after)
        const data = await Promise.all(jobs.map((job) => answerOf(job, parts)))
        return { object: 'list' as const, data, has_more: hasMore }
      },
    )

    app.get(
      '/fine_tuning/jobs/:id',
      {
        schema: {
          operationId: 'openaiGetFineTuningJob',
          summary: 'Look at a training',
          tags: ['openai'],
          params: FineTuningParams,
          response: { 200: FineTuningJob, ...openaiErrors(404, 503) },
        },
      },
      async ({ params }) => answerOf(await findTraining(params.id, parts), parts),
    )

    app.post(
      '/fine_tuning/jobs/:id/cancel',
      {
        schema: {
          operationId: 'openaiCancelFineTuningJob',
          summary: 'Cancel a training that waits or runs',
          description: 'Answers at once; a running training ends within moments.',
          tags: ['openai'],
          params: FineTuningParams,
          response: { 200: FineTuningJob, ...openaiErrors(400, 404, 503) },
        },
      },
      async ({ params }) => {
        const { id } = await findTraining(params.id, parts)
        await parts.queue.cancel(id)
        return answerOf(await findTraining(id, parts), parts)
      },
    )
  }
}

function historyRoutes(parts: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/fine_tuning/jobs/:id/events',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'openaiListFineTuningEvents',
          summary: 'List what happened to a training, the newest first',
          tags: ['openai'],
          params: FineTuningParams,
          querystring: FineTuningQuery,
          response: { 200: FineTuningEventList, ...openaiErrors(400, 404, 503) },
        },
      },
      async ({ params, query: { limit, after } }) => {
        const job = await findTraining(params.id, parts)
        const record = await recordOf(job, parts)
        const events = toFineTuningEvents(job, record, await parts.queue.eventsSoFar(job.id))
        const start = after === undefined ? 0 : events.findIndex(({ id }) => id === after) + 1
        if (start === 0 && after !== undefined) {
          const message = `the job ${job.id} has no event ${JSON.stringify(after)}`
          throw new ServiceError('invalid_request', message, { param: 'after' })
        }
        const data = events.slice(start, start + limit)
        return { object: 'list' as const, data, has_more: start + limit < events.length }
      },
    )

    app.get(
      '/fine_tuning/jobs/:id/checkpoints',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'openaiListFineTuningCheckpoints',
          summary: 'List models of a training that is not done: there are none',
          tags: ['openai'],
          params: FineTuningParams,
          querystring: FineTuningQuery,
          response: { 200: CheckpointList, ...openaiErrors(400, 404, 503) },
        },
      },
      async ({ params }) => {
        await findTraining(params.id, parts)
        return { object: 'list' as const, data: [], has_more: false, first_id: null, last_id: null }
      },
    )
  }
}

async function createJob(
  body: FineTuningBody,
  parts: HttpParts,
  trace: Pick<TrainJobData, 'traceparent'>,
): Promise<FineTuningJob> {
  const { body: asked, kept } = await readFineTuning(body, parts)
  let jobId: string
  try {
    jobId = (await startTraining(asked, parts, trace, kept)).jobId
  } catch (error) {
    throw renamePointers(error, body)
  }
  return answerOf(await findJob(jobId, parts.queue), parts)
}

async function answerOf(job: Job, parts: HttpParts): Promise<FineTuningJob> {
  return toFineTuningJob(job, await recordOf(job, parts), parts)
}

/** An evaluation is no fine-tuning job. Throws `job_not_found`. */
async function findTraining(id: string, { queue }: HttpParts): Promise<Job> {
  const job = await findJob(id, queue)
  if (job.type === 'train') return job
  throw new ServiceError(
    'job_not_found',
    `the job ${id} is no fine-tuning job, it is an evaluation; GET /jobs/${id} has it`,
  )
}

/** Evaluations are passed over, page after page. */
async function listTrainings({ queue }: HttpParts, limit: number, after: string | undefined) {
  const jobs: Job[] = []
  let cursor = after
  for (;;) {
    const page = await queue.list({ limit: limit - jobs.length, ...(cursor !== undefined && { cursor }) })
    jobs.push(...page.data.filter(({ type }) => type === 'train'))
    if (jobs.length === limit || page.next === null) return { jobs, hasMore: page.next !== null }
    cursor = page.next
  }
}

// Trainings and evaluations that wait, run or have ended: looked at, followed, cancelled.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { ServiceError } from '../../errors/errors.ts'
import type { Job, JobEvent } from '../../jobs/job.ts'
import type { HttpParts } from '../parts.ts'
import { JobEventHeaders, JobEventStream, JobPageSchema, JobParams, JobQuery, JobSchema } from '../schemas/jobs.ts'
import { problems } from '../schemas/shared.ts'
import type { ServerEvent, Streams } from '../streams.ts'
import { readNumbers } from '../validation.ts'

export function jobRoutes({ queue }: HttpParts, streams: Streams): FastifyPluginAsyncTypebox {
  const find = (id: string): Promise<Job> => findJob(id, queue)

  return async (app) => {
    app.get(
      '/jobs',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'listJobs',
          summary: 'List jobs, the newest first',
          tags: ['jobs'],
          querystring: JobQuery,
          response: { 200: JobPageSchema, ...problems(400, 503) },
        },
      },
      async ({ query }) => {
        const { data, next } = await queue.list(query)
        return { data: [...data], next }
      },
    )

    app.get(
      '/jobs/:id',
      {
        schema: {
          operationId: 'getJob',
          summary: 'Look at a job',
          tags: ['jobs'],
          params: JobParams,
          response: { 200: JobSchema, ...problems(404, 503) },
        },
      },
      ({ params }) => find(params.id),
    )

    app.delete(
      '/jobs/:id',
      {
        schema: {
          operationId: 'cancelJob',
          summary: 'Cancel a job that waits or runs',
          description: 'Answers at once; a running job ends within moments.',
          tags: ['jobs'],
          params: JobParams,
          response: { 202: JobSchema, ...problems(404, 409, 503) },
        },
      },
      async ({ params }, reply) => {
        await find(params.id)
        await queue.cancel(params.id)
        return reply.code(202).send(await find(params.id))
      },
    )

    app.get(
      '/jobs/:id/events',
      {
        exposeHeadRoute: false,
        schema: {
          operationId: 'followJob',
          summary: 'Follow a job',
          description: 'Server-sent events from the first on, or from Last-Event-ID on, until the job ends.',
          tags: ['jobs'],
          params: JobParams,
          headers: JobEventHeaders,
          response: {
            200: { description: 'The events.', content: { 'text/event-stream': { schema: JobEventStream } } },
            204: { type: 'null', description: 'The job has ended and all its events were received: do not come back.' },
            ...problems(400, 404, 503),
          },
        },
      },
      async (request, reply) => {
        const job = await find(request.params.id)
        const after = Number(request.headers['last-event-id'] ?? 0)
        const signal = streams.enter(reply)
        const events = queue.events(job.id, after, signal)[Symbol.asyncIterator]()
        if (job.finishedAt === null) return streams.send(reply, toServerEvents(events, { first: null, request }))
        // A browser would ask again and again where a stream just ends; this answer stops it.
        const first = await events.next()
        if (first.done === true) return reply.code(204).send(null)
        return streams.send(reply, toServerEvents(events, { first: first.value, request }))
      },
    )
  }
}

/** Throws `job_not_found`. */
export async function findJob(id: string, queue: Pick<HttpParts['queue'], 'get'>): Promise<Job> {
  const job = /^job_[0-9a-z]{1,64}$/.test(id) ? await queue.get(id) : null
  if (job === null) throw new ServiceError('job_not_found', `there is no job ${JSON.stringify(id.slice(0, 100))}`)
  return job
}

/** A queue that goes away in the middle ends the stream: clients come back with Last-Event-ID. */
async function* toServerEvents(events: AsyncIterator<JobEvent>, parts: StreamParts): AsyncGenerator<ServerEvent> {
  const { first, request } = parts
  try {
    if (first !== null) yield toServerEvent(first)
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      yield toServerEvent(next.value)
    }
  } catch (err) {
    request.log.warn({ err }, 'a stream of job events broke')
  } finally {
    await events.return?.()
  }
}

interface StreamParts {
  /** Read already. */
  readonly first: JobEvent | null
  readonly request: Pick<FastifyRequest, 'log'>
}

function toServerEvent({ id, type, data }: JobEvent): ServerEvent {
  return { id, event: type, data }
}

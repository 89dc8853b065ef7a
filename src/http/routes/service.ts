// The service itself: what it is, whether it is alive, whether it is ready, what it has done.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { Metrics } from '../metrics.ts'
import type { EngineFront, HttpParts } from '../parts.ts'
import { kinds } from '../problem.ts'
import { ErrorList, Health, Index, Readiness } from '../schemas/service.ts'
import { problems } from '../schemas/shared.ts'
import { withinMs } from '../streams.ts'

/** Open to everyone: they tell nothing but the state of the service. */
export function healthRoutes({ engine, queue, store, limits }: HttpParts): FastifyPluginAsyncTypebox {
  const ask = (asked: () => Promise<unknown>) => askPart(asked, limits.readyMsMax)
  return async (app) => {
    app.get(
      '/healthz',
      {
        schema: {
          operationId: 'getHealth',
          summary: 'Is it alive?',
          tags: ['service'],
          response: { 200: Health, ...problems() },
        },
      },
      async () => ({ status: 'ok' as const }),
    )

    app.get(
      '/readyz',
      {
        schema: {
          operationId: 'getReadiness',
          summary: 'Is it ready to work?',
          description: 'The model is loaded, and queue and store can be reached.',
          tags: ['service'],
          response: {
            200: Readiness,
            503: { description: 'Not now.', content: { 'application/json': { schema: Readiness } } },
          },
        },
      },
      async (_request, reply) => {
        let loaded: Awaited<ReturnType<EngineFront['ready']>> | null = null
        const [engineState, queueState, storeState] = await Promise.all([
          ask(async () => {
            loaded = await engine.ready()
          }),
          ask(() => queue.ping()),
          ask(() => store.ping()),
        ])
        const parts = { engine: engineState, queue: queueState, store: storeState }
        const ready = Object.values(parts).every(({ status }) => status === 'ok')
        return reply
          .code(ready ? 200 : 503)
          .send({ status: ready ? 'ready' : 'not_ready', parts, runtime: runtimeOf(loaded) })
      },
    )

    app.get(
      '/errors',
      {
        schema: {
          operationId: 'listErrors',
          summary: 'All codes that a problem can have',
          tags: ['service'],
          response: { 200: ErrorList, ...problems() },
        },
      },
      async () => ({ errors: Object.entries(kinds).map(([code, { status, title }]) => ({ code, status, title })) }),
    )
  }
}

export function serviceRoutes(parts: HttpParts, metrics: Metrics): FastifyPluginAsyncTypebox {
  const { model, version, engine, queue, logger, limits } = parts
  return async (app) => {
    app.get(
      '/',
      {
        schema: {
          operationId: 'getIndex',
          summary: 'What is here',
          tags: ['service'],
          response: { 200: Index, ...problems() },
        },
      },
      async () => ({ name: 'preamble', version, model, links }),
    )

    app.get(
      '/metrics',
      {
        schema: {
          operationId: 'getMetrics',
          summary: 'Figures for Prometheus',
          tags: ['service'],
          response: {
            200: { description: 'Text format.', content: { 'text/plain': { schema: Type.String() } } },
            ...problems(),
          },
        },
      },
      async (_request, reply) => {
        const ask = async (part: string, asked: Promise<string> | undefined): Promise<string> => {
          if (asked === undefined) return ''
          const text = await withinMs(asked, limits.readyMsMax).catch((err: unknown) => {
            logger.warn({ err }, `the ${part} gave no figures`)
            return ''
          })
          return text ?? ''
        }
        const [own, steps, jobs] = await Promise.all([
          metrics.text(),
          ask('engine', engine.figures?.()),
          ask('queue', queue.prometheus?.()),
        ])
        return reply.type(metrics.contentType).send([own, steps, jobs].join('\n'))
      },
    )
  }
}

const links = {
  docs: '/docs',
  openapi: '/docs/yaml',
  errors: '/errors',
  prefixes: '/prefixes',
  jobs: '/jobs',
  health: '/healthz',
  readiness: '/readyz',
  metrics: '/metrics',
}

const runtimeOf = (loaded: Awaited<ReturnType<EngineFront['ready']>> | null) => loaded?.runtime ?? null

async function askPart(asked: () => Promise<unknown>, limitMs: number) {
  try {
    const answer = await withinMs(
      asked().then(() => true),
      limitMs,
    )
    if (answer === true) return { status: 'ok' as const, detail: null }
    return { status: 'failed' as const, detail: `no answer within ${limitMs} ms` }
  } catch (error) {
    return { status: 'failed' as const, detail: error instanceof Error ? error.message : String(error) }
  }
}

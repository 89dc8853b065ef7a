// The REST interface: one Fastify app over the engine, the prefixes and the job queue.
import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import { createKeyCheck } from './auth.ts'
import { registerBodyParsers } from './bodies.ts'
import { closeGently } from './closing.ts'
import { registerDocumentation } from './documentation.ts'
import { Generations } from './generations.ts'
import { Metrics } from './metrics.ts'
import type { HttpParts } from './parts.ts'
import { sendProblem, sendRouteNotFound } from './problem.ts'
import { Observations, observeRequests } from './request-log.ts'
import { datasetRoutes } from './routes/datasets.ts'
import { evaluationRoutes } from './routes/evaluations.ts'
import { generateRoutes } from './routes/generate.ts'
import { importRoutes } from './routes/import.ts'
import { jobRoutes } from './routes/jobs.ts'
import { prefixRoutes } from './routes/prefixes.ts'
import { healthRoutes, serviceRoutes } from './routes/service.ts'
import { trainRoutes } from './routes/train.ts'
import { sendOpenaiError } from './openai/errors.ts'
import { openaiPath, openaiRoutes } from './openai/routes.ts'
import { problems, registerSchemas } from './schemas/shared.ts'
import { compileAnswersOnce } from './serializers.ts'
import { Streams } from './streams.ts'

export { defaultHttpLimits, type HttpParts } from './parts.ts'

/** Tests call it without a port. Closing it ends the streams that are open and waits for the other answers. */
export function createHttp(parts: HttpParts): FastifyInstance {
  const app = createApp(parts)
  const streams = new Streams(parts.limits)
  const metrics = new Metrics(streams)
  const observations = new Observations(parts.tracing)
  observeRequests(app, metrics, observations)
  const generations = new Generations({ engine: parts.engine, metrics, observations, model: parts.model.name })
  closeGently(app, streams)
  app.addHook('onSend', (_request, reply, payload, done) => {
    void reply.header('x-content-type-options', 'nosniff')
    done(null, payload)
  })
  registerSchemas(app)
  compileAnswersOnce(app)
  registerBodyParsers(app)
  registerDocumentation(app, parts.version)
  void app.register(async (open) => {
    documentAccess(open, 'open')
    await open.register(healthRoutes(parts))
  })
  void app.register(async (guarded) => {
    guard(guarded, parts.apiKeys)
    await guarded.register(serviceRoutes(parts, metrics))
    await guarded.register(generateRoutes(parts, generations, streams))
    await guarded.register(trainRoutes(parts, observations))
    await guarded.register(prefixRoutes(parts, metrics))
    await guarded.register(evaluationRoutes(parts, observations))
    await guarded.register(importRoutes(parts))
    await guarded.register(datasetRoutes(parts))
    await guarded.register(jobRoutes(parts, streams))
    await guarded.register(openaiRoutes(parts, { generations, streams, metrics, observations }), { prefix: openaiPath })
  })
  return app
}

function createApp({ limits, logger }: HttpParts): FastifyInstance {
  const app = Fastify({
    loggerInstance: logger,
    // The one line of a request is our own.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.receiveMsMax,
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    frameworkErrors: (error, request, reply) => {
      const send = request.url.startsWith(`${openaiPath}/`) ? sendOpenaiError : sendProblem
      void send(error, request, reply)
    },
    ajv: {
      customOptions: {
        // All that is wrong is told at once, nothing is bent into shape, nothing unknown is dropped in silence.
        allErrors: true,
        verbose: true,
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: true,
        allowUnionTypes: true,
      },
    },
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.server.maxConnections = limits.connectionsMax
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler(sendRouteNotFound)
  return app
}

function guard(app: FastifyInstance, apiKeys: HttpParts['apiKeys']): void {
  // The documentation is the same, whether keys are set or not.
  documentAccess(app, 'key')
  if (apiKeys === null) return
  const check = createKeyCheck(apiKeys)
  app.addHook('onRequest', (request, _reply, done) => {
    check(request)
    done()
  })
}

function documentAccess(app: FastifyInstance, access: 'open' | 'key'): void {
  app.addHook('onRoute', ({ schema }) => {
    if (schema === undefined) return
    schema.security = access === 'key' ? [{ apiKey: [] }] : []
    if (access === 'key') schema.response = { ...(schema.response as object), 401: problems(401)[401] }
  })
}

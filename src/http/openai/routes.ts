// The routes under /v1: OpenAI's interface over the same engine, prefixes, jobs and datasets as the rest.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { HttpParts } from '../parts.ts'
import { completionRoutes } from './completions.ts'
import { openaiErrors, sendOpenaiError, sendOpenaiRouteNotFound } from './errors.ts'
import { fileRoutes } from './files.ts'
import { fineTuningRoutes } from './fine-tuning.ts'
import { modelRoutes } from './models.ts'
import type { Shared } from './shared.ts'

export const openaiPath = '/v1'

/** To be registered under `openaiPath`. */
export function openaiRoutes(parts: HttpParts, shared: Shared): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.setErrorHandler(sendOpenaiError)
    app.setNotFoundHandler(sendOpenaiRouteNotFound)
    // The guard has described its refusal in the other shape.
    app.addHook('onRoute', ({ schema }) => {
      if (schema !== undefined) schema.response = { ...(schema.response as object), ...openaiErrors(401) }
    })
    await app.register(completionRoutes(parts, shared))
    await app.register(modelRoutes(parts, shared))
    await app.register(fileRoutes(parts))
    await app.register(fineTuningRoutes(parts, shared))
  }
}

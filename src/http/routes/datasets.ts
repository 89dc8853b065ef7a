// POST /datasets: examples stored once, for any number of trainings.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ServiceError } from '../../errors/errors.ts'
import { parseJsonLines } from '../../prefix/datasets.ts'
import { jsonLinesTypes } from '../bodies.ts'
import type { HttpParts } from '../parts.ts'
import { Dataset } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'

const JsonLines = Type.Unsafe<Buffer>({
  type: 'string',
  description: 'JSON Lines: an object {"input", "output"} a line.',
  examples: ['{"input": "name : Blue Spice | food : Thai", "output": "Blue Spice serves Thai food."}\n'],
})

export function datasetRoutes({ datasets, limits }: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/datasets',
      {
        bodyLimit: limits.datasetBytesMax,
        // It is bytes and not text when it comes; its lines are checked one by one below.
        validatorCompiler: () => () => true,
        schema: {
          operationId: 'createDataset',
          summary: 'Store examples',
          description: 'Equal examples in equal order are one dataset. Every bad line is reported by its number.',
          tags: ['datasets'],
          consumes: [...jsonLinesTypes],
          body: JsonLines,
          response: { 201: Dataset, ...problems(400, 413, 415, 422, 503, 507) },
        },
      },
      async (request, reply) => {
        if (!Buffer.isBuffer(request.body)) throw wrongType(request.headers['content-type'])
        const dataset = await datasets.put(parseJsonLines(request.body))
        return reply.code(201).send(dataset)
      },
    )
  }
}

/** JSON has a parser too, and comes through to here. */
function wrongType(came: string | undefined): ServiceError {
  const message = `the body is ${came ?? 'of no type'}, this route takes ${jsonLinesTypes.join(', ')}`
  return new ServiceError('unsupported_media_type', message)
}

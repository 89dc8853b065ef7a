// POST /generate: text from the frozen model, steered by a stored prefix or by none.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Decoding, GenerateEvent, GenerateRequest } from '../../engine/request.ts'
import { ServiceError } from '../../errors/errors.ts'
import { beginStream, type Generation, generateWhole, readEvents } from '../generating.ts'
import type { Metrics } from '../metrics.ts'
import type { HttpParts } from '../parts.ts'
import { toProblem } from '../problem.ts'
import { GenerateBody, Generated, GeneratedStream } from '../schemas/generate.ts'
import { problems } from '../schemas/shared.ts'
import type { ServerEvent, Streams } from '../streams.ts'
import { invalidFields } from '../validation.ts'

export function generateRoutes(parts: HttpParts, streams: Streams, metrics: Metrics): FastifyPluginAsyncTypebox {
  const { engine, registry, limits } = parts
  return async (app) => {
    app.post(
      '/generate',
      {
        schema: {
          operationId: 'generate',
          summary: 'Generate text',
          tags: ['generate'],
          body: GenerateBody,
          response: {
            200: {
              description: 'The texts; with "stream": true as server-sent events.',
              content: {
                'application/json': { schema: Generated },
                'text/event-stream': { schema: GeneratedStream },
              },
            },
            ...problems(400, 404, 409, 413, 415, 422, 503),
          },
        },
      },
      async (request, reply) => {
        const { body } = request
        checkDecoding(body.decoding)
        const prefixId = body.prefix === null ? null : (await registry.findReady(body.prefix)).id
        if (!body.stream) {
          return toGenerated(await generateWhole(toEngine(body, prefixId), reply, { engine, metrics }), prefixId)
        }
        const begun = await beginStream(toEngine(body, prefixId), reply, { engine, limits, streams })
        return streams.send(reply, toServerEvents(readEvents(begun, metrics), { prefixId, request }))
      },
    )
  }
}

/** What the schema cannot say of fields that go together. */
export function checkDecoding({ strategy, beams, lengthPenalty }: GenerateBody['decoding']): void {
  if (strategy === 'beam') {
    const message = 'decoding.strategy "beam" is not supported by this version; "greedy" and "sample" are'
    throw new ServiceError('not_supported', message, { supported: ['greedy', 'sample'] })
  }
  const errors = Object.entries({ beams, lengthPenalty })
    .filter(([, value]) => value !== undefined)
    .map(([field, value]) => {
      const expected = `nothing, as it is for strategy "beam" and the strategy is "${strategy}"`
      return { pointer: `/decoding/${field}`, expected, received: String(value) }
    })
  if (errors.length > 0) throw invalidFields(errors)
}

function toEngine(body: GenerateBody, prefixId: string | null): GenerateRequest {
  const { input, maxNewTokens, stop, seed, logprobs } = body
  const inputs = typeof input === 'string' ? [input] : input
  return { prefixId, inputs, maxNewTokens, stop, seed, decoding: toDecoding(body.decoding), logprobs }
}

/** Of a body that `checkDecoding` has let through. */
export function toDecoding(decoding: GenerateBody['decoding']): Decoding {
  const { strategy, temperature, topK, topP, repetitionPenalty, n } = decoding
  return {
    strategy: strategy === 'sample' ? ('sample' as const) : ('greedy' as const),
    temperature,
    topK,
    topP,
    repetitionPenalty,
    n,
  }
}

function toGenerated(event: Generation, prefix: string | null): Generated {
  const outputs = event.outputs.map(({ text, finishReason, tokens, logprobs }) => {
    return { text, finishReason, tokens, ...(logprobs && { logprobs: [...logprobs] }) }
  })
  return { prefix, outputs, usage: event.usage }
}

interface Target {
  readonly prefixId: string | null
  readonly request: FastifyRequest
}

/** An error has no status any more to be told with, and becomes the last event. */
async function* toServerEvents(
  events: AsyncIterable<GenerateEvent>,
  { prefixId, request }: Target,
): AsyncGenerator<ServerEvent> {
  try {
    for await (const event of events) {
      if (event.type === 'done') yield { event: 'done', data: toGenerated(event, prefixId) }
      else yield { event: 'token', data: { index: event.index, text: event.text } }
    }
  } catch (error) {
    const problem = toProblem(error, request)
    if (problem.code === 'internal') request.log.error({ err: error }, 'unexpected error in a stream')
    yield { event: 'error', data: problem }
  }
}

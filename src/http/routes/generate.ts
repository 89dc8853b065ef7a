// POST /generate: text from the frozen model, steered by a stored prefix or by none.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Decoding, GenerateEvent, GenerateRequest } from '../../engine/request.ts'
import { ServiceError } from '../../errors/errors.ts'
import type { Generations } from '../generations.ts'
import type { Metrics } from '../metrics.ts'
import type { HttpParts } from '../parts.ts'
import { toProblem } from '../problem.ts'
import { GenerateBody, Generated, GeneratedStream } from '../schemas/generate.ts'
import { problems } from '../schemas/shared.ts'
import { type ServerEvent, type Streams, withinMs } from '../streams.ts'
import { invalidFields } from '../validation.ts'

export function generateRoutes(
  parts: HttpParts,
  generations: Generations,
  streams: Streams,
  metrics: Metrics,
): FastifyPluginAsyncTypebox {
  const { registry, limits } = parts
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
          const abort = new AbortController()
          // The client hung up: stop decoding for it, and give its rows to another.
          reply.raw.once('close', () => abort.abort())
          const generated = await lastOf(
            generations.generate(request, toEngine(body, prefixId), abort.signal),
            prefixId,
          )
          metrics.countTokens(generated.usage.outputTokens)
          return generated
        }
        const signal = streams.enter(reply)
        const events = generations.generate(request, toEngine(body, prefixId), signal)[Symbol.asyncIterator]()
        // What is wrong with the request shows before the first event, and still has a status to be told with.
        const first = events.next()
        await withinMs(first, limits.keepAliveMs)
        return streams.send(reply, toServerEvents({ events, first }, { prefixId, request, metrics }))
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

async function lastOf(events: AsyncIterable<GenerateEvent>, prefixId: string | null): Promise<Generated> {
  for await (const event of events) if (event.type === 'done') return toGenerated(event, prefixId)
  throw unfinished()
}

function toGenerated(event: Extract<GenerateEvent, { type: 'done' }>, prefix: string | null): Generated {
  const outputs = event.outputs.map(({ text, finishReason, tokens, logprobs }) => {
    return { text, finishReason, tokens, ...(logprobs && { logprobs: [...logprobs] }) }
  })
  return { prefix, outputs, usage: event.usage }
}

interface Source {
  readonly events: AsyncIterator<GenerateEvent>
  /** Asked for already. */
  readonly first: Promise<IteratorResult<GenerateEvent>>
}

interface Target {
  readonly prefixId: string | null
  readonly request: FastifyRequest
  readonly metrics: Metrics
}

/** An error has no status any more to be told with, and becomes the last event. */
async function* toServerEvents({ events, first }: Source, target: Target): AsyncGenerator<ServerEvent> {
  const { prefixId, request, metrics } = target
  try {
    for (let next = first; ; next = events.next()) {
      const { value, done } = await next
      if (done === true) throw unfinished()
      if (value.type === 'done') {
        metrics.countTokens(value.usage.outputTokens)
        yield { event: 'done', data: toGenerated(value, prefixId) }
        return
      }
      yield { event: 'token', data: { index: value.index, text: value.text } }
    }
  } catch (error) {
    const problem = toProblem(error, request)
    if (problem.code === 'internal') request.log.error({ err: error }, 'unexpected error in a stream')
    yield { event: 'error', data: problem }
  } finally {
    await events.return?.()
  }
}

/** A bug of the engine. */
function unfinished(): Error {
  return new Error('the generation ended without its last event')
}

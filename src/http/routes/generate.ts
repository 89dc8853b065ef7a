// POST /generate: text from the frozen model, steered by a stored prefix or by none.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { DoneEvent, GenerateEvent, GenerateRequest } from '../../engine/request.ts'
import { clientOf } from '../auth.ts'
import { checkDecoding, toDecoding } from '../decoding.ts'
import { beginStream, generateWhole, readEvents } from '../generating.ts'
import type { Generations } from '../generations.ts'
import type { HttpParts } from '../parts.ts'
import { loggedProblem } from '../problem.ts'
import { GenerateBody, Generated, GeneratedStream } from '../schemas/generate.ts'
import { problems } from '../schemas/shared.ts'
import type { ServerEvent, Streams } from '../streams.ts'
import { invalidFields } from '../validation.ts'

export function generateRoutes(
  parts: HttpParts,
  generations: Generations,
  streams: Streams,
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
            ...problems(400, 404, 409, 413, 415, 422, 503, 504),
          },
        },
      },
      async (request, reply) => {
        const { body } = request
        checkBody(body)
        // Without keys an Authorization header is anybody's word.
        const client = parts.apiKeys === null ? '' : clientOf(request)
        const prefixId = body.prefix === null ? null : (await registry.findReady(body.prefix)).id
        const asked = toEngine(body, prefixId, client)
        const made = { request, reply, generations }
        if (!body.stream) return toGenerated(await generateWhole(asked, made), prefixId)
        const begun = await beginStream(asked, { ...made, limits, streams })
        return streams.send(reply, toServerEvents(readEvents(begun), { prefixId, request, reply }))
      },
    )
  }
}

/** What the schema cannot say of fields that go together. */
function checkBody(body: GenerateBody): void {
  const { decoding, stream, minNewTokens, maxNewTokens, logprobs, topLogprobs } = body
  const errors = checkDecoding(decoding)
  if (minNewTokens > maxNewTokens) {
    const expected = `at most maxNewTokens, which is ${maxNewTokens}`
    errors.push({ pointer: '/minNewTokens', expected, received: String(minNewTokens) })
  }
  const { n, bestOf = n } = decoding
  if (stream && (bestOf > n || decoding.strategy === 'beam')) {
    const expected = 'false, as it is known only at the end which texts are the best'
    errors.push({ pointer: '/stream', expected, received: 'true' })
  }
  for (const [field, value] of Object.entries({ logprobs: logprobs || null, topLogprobs })) {
    if (decoding.strategy !== 'beam' || value === null) continue
    errors.push({
      pointer: `/${field}`,
      expected: 'none, as beams are not scored token by token',
      received: String(value),
    })
  }
  if (errors.length > 0) throw invalidFields(errors)
}

function toEngine(body: GenerateBody, prefixId: string | null, client: string): GenerateRequest {
  const { input, maxNewTokens, minNewTokens, stop, seed, logprobs, topLogprobs, deadlineMs } = body
  const inputs = typeof input === 'string' ? [input] : input
  const decoding = toDecoding(body.decoding)
  const whom = { ...(client !== '' && { client }), ...(deadlineMs !== undefined && { deadlineMs }) }
  return { prefixId, inputs, maxNewTokens, minNewTokens, stop, seed, decoding, logprobs, topLogprobs, ...whom }
}

function toGenerated(event: DoneEvent, prefix: string | null): Generated {
  const outputs = event.outputs.map(({ text, finishReason, tokens, logprobs, topLogprobs }) => ({
    text,
    finishReason,
    tokens,
    ...(logprobs && { logprobs: [...logprobs] }),
    // A copy, as schemas have no word for what is read only.
    ...(topLogprobs && { topLogprobs: topLogprobs.map(({ top, ...token }) => ({ ...token, top: [...top] })) }),
  }))
  return { prefix, outputs, usage: event.usage }
}

interface Target {
  readonly prefixId: string | null
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

async function* toServerEvents(
  events: AsyncIterable<GenerateEvent>,
  { prefixId, request, reply }: Target,
): AsyncGenerator<ServerEvent> {
  try {
    for await (const event of events) {
      if (event.type === 'done') yield { event: 'done', data: toGenerated(event, prefixId) }
      else yield { event: 'token', data: { index: event.index, text: event.text } }
    }
  } catch (error) {
    yield { event: 'error', data: loggedProblem(error, request, reply) }
  }
}

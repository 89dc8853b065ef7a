// POST /v1/completions: OpenAI's way to ask for what POST /generate makes.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import {
  type DoneEvent,
  greedy,
  type GenerateEvent,
  type GenerateRequest,
  type Output,
  type Usage,
} from '../../engine/request.ts'
import { beginStream, generateWhole, readEvents } from '../generating.ts'
import type { HttpParts } from '../parts.ts'
import type { Shared } from './shared.ts'
import { invalidFields } from '../validation.ts'
import { Completion, CompletionBody, CompletionStream, maxTokensDefault } from './completion-schemas.ts'
import { loggedOpenaiError, openaiErrors } from './errors.ts'
import { toLogprobs, type CompletionLogprobs } from './logprobs.ts'
import { findModel, modelIdOf } from './models.ts'
import { refuseUnsupported } from './unsupported.ts'

export function completionRoutes(parts: HttpParts, shared: Shared): FastifyPluginAsyncTypebox {
  const { streams, generations } = shared
  return async (app) => {
    app.post(
      '/completions',
      {
        schema: {
          operationId: 'openaiCreateCompletion',
          summary: 'Complete a prompt',
          tags: ['openai'],
          body: CompletionBody,
          response: {
            200: {
              description: 'The completions; with "stream": true as server-sent events.',
              content: {
                'application/json': { schema: Completion },
                'text/event-stream': { schema: CompletionStream },
              },
            },
            ...openaiErrors(400, 404, 413, 415, 503),
          },
        },
      },
      async (request, reply) => {
        const { body } = request
        refuseUnsupported(body)
        checkTogether(body)
        const record = await findModel(body.model, parts)
        const asked = toEngine(body, record?.id ?? null)
        const made = { request, reply, generations }
        const frame = frameOf(request, record === null ? parts.model.name : modelIdOf(record), parts)
        if (body.stream !== true) {
          return toCompletion(await generateWhole(asked, made), body, frame)
        }
        const begun = await beginStream(asked, { ...made, limits: parts.limits, streams })
        return streams.sendTexts(reply, toChunks(readEvents(begun), { body, frame, request, reply }))
      },
    )
  }
}

/** What the schema cannot say of fields that go together. */
function checkTogether({ stream, stream_options: options, best_of: best, n, temperature }: CompletionBody): void {
  const refuse = (pointer: string, expected: string, received: string): never => {
    throw invalidFields([{ pointer, expected, received }])
  }
  if (stream !== true && options !== null)
    refuse('/stream_options', 'nothing, as it is for "stream": true', 'an object')
  const texts = n ?? 1
  if (best === null || best === texts) return
  if (best < texts) refuse('/best_of', `at least n, ${texts}`, String(best))
  if (stream === true) refuse('/best_of', 'n, as the best are not known before all are there', String(best))
  if (temperature === 0) refuse('/best_of', 'n, as all texts of temperature 0 are the same', String(best))
}

function promptsOf({ prompt }: CompletionBody): readonly string[] {
  return typeof prompt === 'string' ? [prompt] : prompt
}

function toEngine(body: CompletionBody, prefixId: string | null): GenerateRequest {
  const { max_tokens: maxTokens, temperature, top_p: topP, stop, seed } = body
  const n = body.n ?? 1
  return {
    prefixId,
    inputs: promptsOf(body),
    maxNewTokens: maxTokens ?? maxTokensDefault,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    seed,
    decoding: {
      ...greedy,
      strategy: temperature === 0 ? 'greedy' : 'sample',
      // Greedy takes no notice of it.
      temperature: temperature === 0 ? 1 : (temperature ?? 1),
      topP: topP ?? 1,
      presencePenalty: body.presence_penalty ?? 0,
      frequencyPenalty: body.frequency_penalty ?? 0,
      logitBias: body.logit_bias ?? {},
      n,
      bestOf: body.best_of ?? n,
    },
    logprobs: false,
    ...(body.logprobs !== null && { topLogprobs: body.logprobs }),
  }
}

/** What the answer and every chunk of a stream have alike. */
type Frame = Pick<Completion, 'id' | 'object' | 'created' | 'model' | 'system_fingerprint'>

function frameOf({ id }: FastifyRequest, model: string, { model: { sha256 } }: HttpParts): Frame {
  return {
    id: `cmpl-${id.replaceAll('-', '')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1_000),
    model,
    system_fingerprint: `fp_${sha256.slice(0, 12)}`,
  }
}

function toCompletion({ outputs, usage }: DoneEvent, body: CompletionBody, frame: Frame): Completion {
  const echoes = echoesOf(body)
  const choices = outputs.map((output, index) => {
    const text = (echoes[index] ?? '') + output.text
    return { text, index, logprobs: logprobsOf(output), finish_reason: output.finishReason }
  })
  return { ...frame, choices, usage: toUsage(usage) }
}

const logprobsOf = ({ topLogprobs }: Output): CompletionLogprobs | null =>
  topLogprobs === undefined ? null : toLogprobs(topLogprobs)

/** The prompt of each choice, where it is wanted back. */
function echoesOf(body: CompletionBody): readonly string[] {
  if (body.echo !== true) return []
  return promptsOf(body).flatMap((prompt) => Array.from({ length: body.n ?? 1 }, () => prompt))
}

interface Target {
  readonly body: CompletionBody
  readonly frame: Frame
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

async function* toChunks(events: AsyncIterable<GenerateEvent>, target: Target): AsyncGenerator<string> {
  const { body, frame, request, reply } = target
  const withUsage = body.stream_options?.include_usage === true
  const chunkOf = (text: string, index: number, whole?: Output): string => {
    const ending = { logprobs: whole ? logprobsOf(whole) : null, finish_reason: whole?.finishReason ?? null }
    return encode({ ...frame, choices: [{ text, index, ...ending }], ...(withUsage && { usage: null }) })
  }
  try {
    for (const [index, prompt] of echoesOf(body).entries()) yield chunkOf(prompt, index)
    for await (const event of events) {
      if (event.type === 'token') yield chunkOf(event.text, event.index)
      else {
        for (const [index, output] of event.outputs.entries()) yield chunkOf('', index, output)
        if (withUsage) yield encode({ ...frame, choices: [], usage: toUsage(event.usage) })
        yield 'data: [DONE]\n\n'
      }
    }
  } catch (error) {
    yield encode(loggedOpenaiError(error, request, reply))
  }
}

/** Without a name and a time to try again: their Python client takes such an event for a broken one. */
function encode(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`
}

function toUsage({ inputTokens, outputTokens }: Usage) {
  const total = inputTokens + outputTokens
  return { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: total }
}

// What every route that generates does with the engine: waits for the whole answer or streams it, and leaves with the client.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { DoneEvent, GenerateEvent, GenerateRequest } from '../engine/request.ts'
import type { Generations } from './generations.ts'
import type { HttpParts } from './parts.ts'
import { type Streams, withinMs } from './streams.ts'

/** Whom it is done for, and what sees it. */
export interface Asking {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly generations: Generations
}

/** The whole answer. A client that hangs up stops its decoding, and gives its rows to another. */
export async function generateWhole(
  asked: GenerateRequest,
  { request, reply, generations }: Asking,
): Promise<DoneEvent> {
  const abort = new AbortController()
  reply.raw.once('close', () => abort.abort())
  for await (const event of generations.generate(request, asked, abort.signal)) {
    if (event.type === 'done') return event
  }
  throw unfinished()
}

/** A generation that has begun to answer. */
export interface Begun {
  readonly events: AsyncIterator<GenerateEvent>
  /** Asked for already. */
  readonly first: Promise<IteratorResult<GenerateEvent>>
}

/** What is wrong with the request shows before the first event, and still has a status to be told with. */
export async function beginStream(
  asked: GenerateRequest,
  { request, reply, generations, limits, streams }: Asking & Pick<HttpParts, 'limits'> & { readonly streams: Streams },
): Promise<Begun> {
  const signal = streams.enter(reply)
  const events = generations.generate(request, asked, signal)[Symbol.asyncIterator]()
  const first = events.next()
  await withinMs(first, limits.keepAliveMs)
  return { events, first }
}

/** The events, `done` the last. */
export async function* readEvents({ events, first }: Begun): AsyncGenerator<GenerateEvent, void> {
  try {
    for (let next = first; ; next = events.next()) {
      const { value, done } = await next
      if (done === true) throw unfinished()
      yield value
      if (value.type === 'done') return
    }
  } finally {
    await events.return?.()
  }
}

/** A bug of the engine. */
function unfinished(): Error {
  return new Error('the generation ended without its last event')
}

// Server-sent events: values to text, a word now and then when there are none, and an end when the client or the service leaves.
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { ServiceError } from '../errors/errors.ts'

export interface ServerEvent {
  /** What a client sends as Last-Event-ID to go on from here. */
  readonly id?: number
  readonly event: string
  readonly data: unknown
}

export interface StreamLimits {
  readonly streamsMax: number
  readonly keepAliveMs: number
  /** A client that takes nothing for so long has left; longer than `keepAliveMs`, which gives it something to take. */
  readonly stalledMsMax: number
}

/** When the stream breaks, clients try again after this time. */
const retryMs = 2_000

/** The streams that are open. Each ends by itself, when its client leaves, or all of them when the service closes. */
export class Streams {
  readonly #limits: StreamLimits
  readonly #open = new Set<AbortController>()

  constructor(limits: StreamLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#open.size
  }

  /** The signal aborts when the reply is over, however it ended. Throws `overloaded` where too many are open. */
  enter(reply: FastifyReply): AbortSignal {
    const { streamsMax } = this.#limits
    if (this.#open.size >= streamsMax) {
      throw new ServiceError('overloaded', `${streamsMax} streams are open, no more can be`, { streamsMax })
    }
    const controller = new AbortController()
    this.#open.add(controller)
    reply.raw.once('close', () => {
      this.#open.delete(controller)
      controller.abort()
    })
    return controller.signal
  }

  /** The events are pulled only as fast as the client reads. They must end soon once the signal of `enter` aborts. */
  send(reply: FastifyReply, events: AsyncIterable<ServerEvent>): FastifyReply {
    return sendTexts(reply, encodeEvents(events, this.#limits.keepAliveMs), this.#limits.stalledMsMax)
  }

  /** The same for events that are text already, each ended by an empty line. */
  sendTexts(reply: FastifyReply, texts: AsyncIterable<string>): FastifyReply {
    return sendTexts(reply, keepAlive(texts, this.#limits.keepAliveMs), this.#limits.stalledMsMax)
  }

  closeAll(): void {
    for (const controller of this.#open) controller.abort()
  }
}

/** The text of each event, and a comment whenever there was none for `keepAliveMs`. */
export function encodeEvents(events: AsyncIterable<ServerEvent>, keepAliveMs: number): AsyncGenerator<string> {
  return keepAlive(toTexts(events), keepAliveMs)
}

async function* toTexts(events: AsyncIterable<ServerEvent>): AsyncGenerator<string> {
  yield `retry: ${retryMs}\n\n`
  for await (const event of events) yield encodeEvent(event)
}

async function* keepAlive(texts: AsyncIterable<string>, keepAliveMs: number): AsyncGenerator<string> {
  const iterator = texts[Symbol.asyncIterator]()
  try {
    for (let next = iterator.next(); ; ) {
      const result = await withinMs(next, keepAliveMs)
      if (result === null) {
        yield ': still here\n\n'
        continue
      }
      if (result.done === true) return
      yield result.value
      next = iterator.next()
    }
  } finally {
    await iterator.return?.()
  }
}

function sendTexts(reply: FastifyReply, texts: AsyncIterable<string>, stalledMsMax: number): FastifyReply {
  // Nothing else would end it: what nobody reads stays here, and counts as an open stream.
  reply.raw.setTimeout(stalledMsMax, () => reply.raw.destroy())
  return reply
    .type('text/event-stream; charset=utf-8')
    .headers({ 'cache-control': 'no-store', 'x-accel-buffering': 'no', connection: 'close' })
    .send(Readable.from(texts, { objectMode: false }))
}

function encodeEvent({ id, event, data }: ServerEvent): string {
  // JSON has no line breaks of its own, so one data line holds it.
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}

/** null when it takes longer; the promise may be waited for again. */
export function withinMs<T>(promise: Promise<T>, limitMs: number): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(null), limitMs)
    void promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

// Figures for Prometheus: requests by route and status, how long they took, what was generated.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds. From an answer out of memory to a long generation. */
const durationBuckets = [0.005, 0.02, 0.1, 0.5, 2, 10, 60]

export class Metrics {
  readonly #registry = new Registry()
  readonly #requests: Counter<'method' | 'route' | 'status'>
  readonly #seconds: Histogram<'method' | 'route'>
  readonly #tokens: Counter

  /** `streams` counts the event streams that are open now. */
  constructor(streams: { readonly count: number }) {
    const registers = [this.#registry]
    collectDefaultMetrics({ register: this.#registry })
    this.#requests = new Counter({
      name: 'preamble_http_requests_total',
      help: 'Requests answered; status "aborted" where the client left before the answer.',
      labelNames: ['method', 'route', 'status'],
      registers,
    })
    this.#seconds = new Histogram({
      name: 'preamble_http_request_duration_seconds',
      help: 'From the head of a request to the end of its answer.',
      labelNames: ['method', 'route'],
      buckets: durationBuckets,
      registers,
    })
    this.#tokens = new Counter({ name: 'preamble_generated_tokens_total', help: 'Tokens generated.', registers })
    const gauge: Gauge = new Gauge({
      name: 'preamble_streams_active',
      help: 'Server-sent event streams that are open.',
      registers,
      collect: () => gauge.set(streams.count),
    })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  countTokens(tokens: number): void {
    this.#tokens.inc(tokens)
  }

  countRequest(method: string, route: string, status: number | 'aborted', ms: number): void {
    this.#requests.inc({ method, route, status })
    this.#seconds.observe({ method, route }, ms / 1_000)
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }
}

/** One line in the log and one count for every request, whichever way it ends. */
export function observeRequests(app: FastifyInstance, metrics: Metrics): void {
  app.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    void reply.header('x-request-id', request.id)
    const startMs = performance.now()
    let told = false
    const tell = (status: number | 'aborted'): void => {
      if (told) return
      told = true
      const { method } = request
      // The route's pattern, not the path: few values, and nothing that a user wrote.
      const route = request.routeOptions.url ?? 'none'
      const ms = Math.round((performance.now() - startMs) * 10) / 10
      metrics.countRequest(method, route, status, ms)
      request.log.info({ method, route, status, ms }, 'request')
    }
    reply.raw.once('finish', () => tell(reply.raw.statusCode))
    reply.raw.once('close', () => tell('aborted'))
    done()
  })
}

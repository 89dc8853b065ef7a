// Figures for Prometheus: requests by route and status, how long they took, what was generated.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { type Ended, PrefixFigures } from './prefix-figures.ts'

/** Seconds. From an answer out of memory to a long generation. */
const durationBuckets = [0.005, 0.02, 0.1, 0.5, 2, 10, 60]

export class Metrics {
  readonly #registry = new Registry()
  readonly #requests: Counter<'method' | 'route' | 'status'>
  readonly #seconds: Histogram<'method' | 'route'>
  readonly #tokens: Counter
  readonly #prefixes: PrefixFigures

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
    this.#tokens = new Counter({
      name: 'preamble_generated_tokens_total',
      help: 'Tokens of answers that were given whole.',
      registers,
    })
    this.#prefixes = new PrefixFigures(this.#registry)
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

  countGeneration(ended: Ended): void {
    this.#prefixes.ended(ended)
    if (ended.outcome === 'done') this.#tokens.inc(ended.outputTokens)
  }

  /** Of a prefix that was deleted: its series go. */
  forgetPrefix(prefixId: string): void {
    this.#prefixes.forget(prefixId)
  }

  countRequest(method: string, route: string, status: number | 'aborted', ms: number): void {
    this.#requests.inc({ method, route, status })
    this.#seconds.observe({ method, route }, ms / 1_000)
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }
}

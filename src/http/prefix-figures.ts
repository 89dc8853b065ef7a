// Figures of each prefix for Prometheus: requests, tokens, latencies, and how often it had to be loaded.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Account } from '../engine/stopwatch.ts'
import { NamedPrefixes, type NamingLimits } from './named-prefixes.ts'

/** `refused`: an error that says what was wrong with the request, or that there was no room for it. */
export type Outcome = 'done' | 'cancelled' | 'refused' | 'failed'

/** A generation that has ended. */
export interface Ended {
  readonly prefixId: string | null
  readonly outcome: Outcome
  /** null: the engine never had it, or died over it. */
  readonly account: Account | null
  readonly inputTokens: number
  readonly outputTokens: number
}

type Timed = 'firstToken' | 'token' | 'request' | 'load'

const prefixLabels = ['prefix'] as const
/** Seconds, from the first token of an idle service to that of a full one. */
const firstTokenBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const tokenBuckets = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64]
const requestBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** Out of a folder, and out of a bucket far away. */
const loadBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2]

export class PrefixFigures {
  readonly #named: NamedPrefixes
  readonly #registers: Registry[]
  readonly #requests: Counter<'prefix' | 'outcome'>
  readonly #counters: Readonly<Record<'inputTokens' | 'outputTokens' | 'hits' | 'misses', Counter<'prefix'>>>
  readonly #histograms: Readonly<Record<Timed, Histogram<'prefix'>>>
  readonly #queue: Histogram

  constructor(registry: Registry, limits?: NamingLimits) {
    this.#registers = [registry]
    this.#named = new NamedPrefixes((label) => this.#remove(label), limits)
    this.#requests = new Counter({
      name: 'preamble_prefix_requests_total',
      help: 'Generations that ended, by how.',
      labelNames: ['prefix', 'outcome'],
      registers: this.#registers,
    })
    this.#counters = {
      inputTokens: this.#counter('input_tokens', 'Tokens of prompts, as billed.'),
      outputTokens: this.#counter('output_tokens', 'Tokens made, those of texts that were broken off too.'),
      hits: this.#counter('pool_hits', 'Requests that found their prefix in memory.'),
      misses: this.#counter('pool_misses', 'Requests that waited for their prefix to be loaded.'),
    }
    this.#histograms = {
      firstToken: this.#histogram(
        'first_token',
        'From the request in the engine to its first token.',
        firstTokenBuckets,
      ),
      token: this.#histogram('token', 'Mean time between two tokens of a text, one for each request.', tokenBuckets),
      request: this.#histogram('request', 'From the request in the engine to its last token.', requestBuckets),
      load: this.#histogram('load', 'Loading the prefix, for requests that waited for it.', loadBuckets),
    }
    this.#queue = new Histogram({
      name: 'preamble_queue_wait_seconds',
      help: 'From coming in line to the first step.',
      buckets: firstTokenBuckets,
      registers: this.#registers,
    })
    const named: Gauge = new Gauge({
      name: 'preamble_prefixes_named',
      help: 'Prefixes with series of their own; the rest is "other".',
      registers: this.#registers,
      collect: () => named.set(this.#named.size),
    })
  }

  ended({ prefixId, outcome, account, inputTokens, outputTokens }: Ended): void {
    const prefix = this.#named.labelOf(prefixId, performance.now())
    this.#requests.inc({ prefix, outcome })
    this.#counters.inputTokens.inc({ prefix }, inputTokens)
    this.#counters.outputTokens.inc({ prefix }, outputTokens)
    if (account === null) return
    const { askedMs, lease, queuedMs, startedMs, firstTokenMs, tokenMs, endedMs } = account
    if (lease !== null) this.#counters[lease.hit ? 'hits' : 'misses'].inc({ prefix })
    if (lease?.hit === false) this.#observe('load', prefix, lease.endMs - lease.startMs)
    if (queuedMs !== null && startedMs !== null) this.#queue.observe((startedMs - queuedMs) / 1_000)
    if (firstTokenMs !== null) this.#observe('firstToken', prefix, firstTokenMs - askedMs)
    if (tokenMs !== null) this.#observe('token', prefix, tokenMs)
    if (outcome === 'done') this.#observe('request', prefix, endedMs - askedMs)
  }

  /** Of a prefix that was deleted: its series go. */
  forget(prefixId: string): void {
    this.#named.forget(prefixId)
  }

  #observe(name: Timed, prefix: string, ms: number): void {
    this.#histograms[name].observe({ prefix }, ms / 1_000)
  }

  #remove(prefix: string): void {
    for (const outcome of ['done', 'cancelled', 'refused', 'failed'] as const)
      this.#requests.remove({ prefix, outcome })
    for (const counter of Object.values(this.#counters)) counter.remove({ prefix })
    for (const histogram of Object.values(this.#histograms)) histogram.remove({ prefix })
  }

  #counter(what: string, help: string): Counter<'prefix'> {
    return new Counter({
      name: `preamble_prefix_${what}_total`,
      help,
      labelNames: prefixLabels,
      registers: this.#registers,
    })
  }

  #histogram(what: string, help: string, buckets: number[]): Histogram<'prefix'> {
    const name = `preamble_prefix_${what}_seconds`
    return new Histogram({ name, help, labelNames: prefixLabels, buckets, registers: this.#registers })
  }
}

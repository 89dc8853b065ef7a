// Figures of the engine's steps for Prometheus, kept in the engine's own thread and read when somebody asks.
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Observer, Step } from './observer.ts'

/** The engine at this moment. */
export interface EngineState {
  readonly waiting: number
  readonly running: number
  /** Positions of the KV cache that rows hold now, and all that there are. */
  readonly cachePositions: number
  readonly cachePositionsMax: number
  readonly prefixes: number
  readonly prefixBytes: number
  /** Prefixes that were let go to make room for others, since the start. */
  readonly evictions: number
  /** Tokens of prompts that were copied from rows that held them already, since the start. */
  readonly reusedTokens: number
}

/** Seconds. From a decode step of a small model to a prefill of a large one. */
const stepBuckets = [0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28]
const rowBuckets = [1, 2, 4, 8, 16, 32, 64, 128]

/** Costs a step about a microsecond. Its few labels have few values, so asking is cheap too. */
export class StepFigures implements Observer {
  readonly #registry = new Registry()
  readonly #seconds: Histogram<'phase'>
  readonly #rows: Histogram<'phase'>
  readonly #promptTokens: Counter
  readonly #draftTokens: Counter
  readonly #draftTokensTaken: Counter
  #last: Step | null = null

  /** `state` is asked when the figures are. */
  constructor(state: () => EngineState) {
    const registers = [this.#registry]
    this.#seconds = new Histogram({
      name: 'preamble_step_seconds',
      help: 'One step of the engine: arranging rows, the model, sampling.',
      labelNames: ['phase'],
      buckets: stepBuckets,
      registers,
    })
    this.#rows = new Histogram({
      name: 'preamble_step_rows',
      help: 'Rows that a step carries through the model.',
      labelNames: ['phase'],
      buckets: rowBuckets,
      registers,
    })
    this.#promptTokens = new Counter({
      name: 'preamble_prompt_tokens_total',
      help: 'Tokens of prompts that were read in.',
      registers,
    })
    this.#draftTokens = new Counter({
      name: 'preamble_draft_tokens_total',
      help: 'Tokens that steps tried beside the sure ones.',
      registers,
    })
    this.#draftTokensTaken = new Counter({
      name: 'preamble_draft_tokens_taken_total',
      help: 'Tokens tried that came true: each spared a step of its row.',
      registers,
    })
    this.#gauge('preamble_batch_size', 'Rows of the latest step; 0 at rest.', () => this.#latest(state())?.rows ?? 0)
    this.#gauge('preamble_step_prompt_tokens', 'Tokens of prompts in the latest step; 0 at rest.', () => {
      return this.#latest(state())?.promptTokens ?? 0
    })
    this.#gauge('preamble_sequences_waiting', 'Sequences in line for a row.', () => state().waiting)
    this.#gauge('preamble_sequences_running', 'Sequences that hold a row.', () => state().running)
    this.#gauge('preamble_cache_positions', 'Positions of the KV cache in use.', () => state().cachePositions)
    this.#gauge('preamble_cache_share', 'Share of the KV cache in use, 0 to 1.', () => {
      const { cachePositions, cachePositionsMax } = state()
      return cachePositions / cachePositionsMax
    })
    this.#gauge('preamble_prefix_pool_prefixes', 'Prefixes in memory.', () => state().prefixes)
    this.#gauge('preamble_prefix_pool_bytes', 'Keys and values of prefixes in memory.', () => state().prefixBytes)
    this.#count('preamble_prefix_pool_evictions_total', 'Prefixes that were let go to make room for others.', () => {
      return state().evictions
    })
    this.#count('preamble_prompt_tokens_reused_total', 'Tokens of prompts that another row had read.', () => {
      return state().reusedTokens
    })
  }

  stepped(step: Step): void {
    this.#last = step
    const { phase, seconds, rows, promptTokens, draftTokens, draftTokensTaken } = step
    this.#seconds.observe({ phase }, seconds)
    this.#rows.observe({ phase }, rows)
    this.#promptTokens.inc(promptTokens)
    this.#draftTokens.inc(draftTokens)
    this.#draftTokensTaken.inc(draftTokensTaken)
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  #latest({ running }: EngineState): Step | null {
    return running === 0 ? null : this.#last
  }

  /** Of what is counted elsewhere. */
  #count(name: string, help: string, total: () => number): void {
    const counter: Counter = new Counter({
      name,
      help,
      registers: [this.#registry],
      collect: () => {
        counter.reset()
        counter.inc(total())
      },
    })
  }

  #gauge(name: string, help: string, value: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.#registry], collect: () => gauge.set(value()) })
  }
}

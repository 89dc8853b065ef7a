// Times one request on its way through the engine: the account that logs, figures and traces are made of.
import { nowMs } from '../tracing/tracing.ts'

/**
 * What became of one request. Times are milliseconds since 1970 and can be compared between threads; null: it never came to
 * that. Numbers alone: no text of anybody.
 */
export interface Account {
  readonly askedMs: number
  /** The lease of its prefix; null for the bare model, and where there was none in the end. */
  readonly lease: { readonly hit: boolean; readonly startMs: number; readonly endMs: number } | null
  /** When it came in line. */
  readonly queuedMs: number | null
  /** When the first step began that any of its prompts was in. */
  readonly startedMs: number | null
  /** When the first token of any of its texts was there. */
  readonly firstTokenMs: number | null
  readonly endedMs: number
  readonly inputTokens: number
  /** Tokens made, also those of texts that were broken off. */
  readonly outputTokens: number
  /** Mean time between two tokens of one text; null where no text has two. */
  readonly tokenMs: number | null
}

/** A text as far as it has come. */
interface Made {
  readonly output: readonly number[]
}

/** Of one text: the times of its first and latest token. */
interface Pace {
  readonly firstMs: number
  lastMs: number
}

export class Stopwatch {
  readonly #askedMs = nowMs()
  readonly #paces = new Map<Made, Pace>()
  #leasing: { readonly hit: boolean; readonly startMs: number } | null = null
  #lease: Account['lease'] = null
  #queuedMs: number | null = null
  #startedMs: number | null = null
  #firstTokenMs: number | null = null
  #inputTokens = 0

  /** `hit`: the prefix is in memory already. */
  leasing(hit: boolean): void {
    this.#leasing = { hit, startMs: nowMs() }
  }

  leased(): void {
    if (this.#leasing !== null) this.#lease = { ...this.#leasing, endMs: nowMs() }
  }

  queued(inputTokens: number): void {
    this.#queuedMs = nowMs()
    this.#inputTokens = inputTokens
  }

  /** `text` was in a step from `startMs` to `endMs`. */
  stepped(text: Made, startMs: number, endMs: number): void {
    this.#startedMs ??= startMs
    if (text.output.length === 0) return
    this.#firstTokenMs ??= endMs
    const pace = this.#paces.get(text)
    if (pace === undefined) this.#paces.set(text, { firstMs: endMs, lastMs: endMs })
    else pace.lastMs = endMs
  }

  ended(): Account {
    let outputTokens = 0
    let gaps = 0
    let gapsMs = 0
    for (const [{ output }, { firstMs, lastMs }] of this.#paces) {
      outputTokens += output.length
      gaps += output.length - 1
      gapsMs += lastMs - firstMs
    }
    return {
      askedMs: this.#askedMs,
      lease: this.#lease,
      queuedMs: this.#queuedMs,
      startedMs: this.#startedMs,
      firstTokenMs: this.#firstTokenMs,
      endedMs: nowMs(),
      inputTokens: this.#inputTokens,
      outputTokens,
      tokenMs: gaps === 0 ? null : gapsMs / gaps,
    }
  }
}

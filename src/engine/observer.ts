// What is seen of each step of the engine: one call after it, whatever the number of rows.
import type { Continuation } from './generation.ts'
import { nowMs } from '../tracing/tracing.ts'

export interface Step {
  /** `mixed`: pieces of prompts beside rows that decode. */
  readonly phase: 'prefill' | 'decode' | 'mixed'
  readonly seconds: number
  readonly rows: number
  readonly promptTokens: number
}

export interface Observer {
  stepped(step: Step): void
}

/** Sequences of a step, and the tokens that each of them gets. */
interface StepPart {
  readonly sequences: readonly Continuation[]
  readonly tokens: readonly (readonly number[])[]
}

/** Taken before a step runs, while its sequences are still in the states that they go into it with. */
export class StepWatch {
  readonly #sequences: readonly Continuation[]
  readonly #startMs = nowMs()
  #promptRows = 0
  #promptTokens = 0

  constructor(parts: readonly StepPart[]) {
    this.#sequences = parts.flatMap(({ sequences }) => sequences)
    for (const { sequences, tokens } of parts) {
      sequences.forEach(({ state }, i) => {
        if (state !== 'prefilling') return
        this.#promptRows += 1
        this.#promptTokens += tokens[i]?.length ?? 0
      })
    }
  }

  /** After the step and its sampling. */
  end(observer: Observer | null): void {
    const endMs = nowMs()
    for (const continuation of this.#sequences)
      continuation.generation.stopwatch?.stepped(continuation, this.#startMs, endMs)
    if (observer === null) return
    const rows = this.#sequences.length
    const phase = this.#promptRows === 0 ? 'decode' : this.#promptRows === rows ? 'prefill' : 'mixed'
    observer.stepped({ phase, seconds: (endMs - this.#startMs) / 1_000, rows, promptTokens: this.#promptTokens })
  }
}

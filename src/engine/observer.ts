// What is seen of each step of the engine: one call after it, whatever the number of rows.
import type { Continuation } from './generation.ts'
import { nowMs } from '../tracing/tracing.ts'

export interface Step {
  /** `mixed`: pieces of prompts beside rows that decode. */
  readonly phase: 'prefill' | 'decode' | 'mixed'
  readonly seconds: number
  readonly rows: number
  readonly promptTokens: number
  /** Of all texts together. */
  readonly tokensMade: number
  /** Tokens that were tried beside the sure ones, and those of them that came true. */
  readonly draftTokens: number
  readonly draftTokensTaken: number
}

export interface Observer {
  stepped(step: Step): void
}

/** Sequences of a step, and the tokens that each of them gets. */
interface StepPart {
  readonly sequences: readonly Continuation[]
  readonly tokens: readonly (readonly number[])[]
  readonly every?: boolean
}

/** Taken before a step runs, while its sequences are still in the states that they go into it with. */
export class StepWatch {
  readonly #sequences: readonly Continuation[]
  readonly #startMs = nowMs()
  #promptRows = 0
  #promptTokens = 0
  #draftTokens = 0
  /** Tokens that each sequence had. */
  readonly #tokensBefore: readonly number[]

  constructor(parts: readonly StepPart[]) {
    this.#sequences = parts.flatMap(({ sequences }) => sequences)
    this.#tokensBefore = this.#sequences.map(({ output }) => output.length)
    for (const { sequences, tokens, every } of parts) {
      if (every) this.#draftTokens = tokens.reduce((sum, { length }) => sum + length - 1, this.#draftTokens)
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
    const made = this.#sequences.map(({ output }, i) => output.length - (this.#tokensBefore[i] as number))
    observer.stepped({
      phase,
      seconds: (endMs - this.#startMs) / 1_000,
      rows,
      promptTokens: this.#promptTokens,
      tokensMade: made.reduce((sum, count) => sum + count, 0),
      draftTokens: this.#draftTokens,
      draftTokensTaken: this.#draftTokens === 0 ? 0 : made.reduce((sum, count) => sum + Math.max(0, count - 1), 0),
    })
  }
}

// One continuation in flight as the scheduler sees it, and the batches that carry many of them through the model.
import type { Past } from '../runtime/runtime.ts'

/**
 * waiting: in line, holds no row. prefilling: has a row, and its prompt is read in, in pieces if it is long.
 * decoding: one token a step. finished: holds nothing. The scheduler alone writes the state, the row and `prefilled`.
 */
export type SequenceState = 'waiting' | 'prefilling' | 'decoding' | 'finished'

export interface Sequence {
  /** Tokens of the prompt, at least one. */
  readonly prompt: readonly number[]
  /** What its row starts from: the keys and values of a prefix, or nothing. */
  readonly past: Past | null
  /** Tokens made so far; whoever samples appends one after each step that ends in the state `decoding`. */
  readonly output: readonly number[]
  state: SequenceState
  /** Row of the KV cache; -1 without one. */
  row: number
  /** Tokens of the prompt that are in the cache. */
  prefilled: number
}

/** Copies a row of the KV cache over another. */
export interface Move {
  readonly from: number
  readonly to: number
}

/** One call of the model: neighbouring rows, and the tokens that each of them gets. */
export interface Batch<S extends Sequence = Sequence> {
  readonly phase: 'prefill' | 'decode'
  /** Rows in use, those of this batch included: 0..rows-1 after the moves. */
  readonly rows: number
  /** To be made first, in this order. */
  readonly moves: readonly Move[]
  /** Sequences that are new in their rows, to be seeded next. */
  readonly seeds: readonly S[]
  /** In the rows `start`, `start + 1`, … */
  readonly start: number
  readonly sequences: readonly S[]
  /** At least one token for each sequence. */
  readonly tokens: readonly (readonly number[])[]
}

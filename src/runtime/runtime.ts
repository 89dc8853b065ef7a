// What a runtime gives: programs from graphs, and decode sessions that own a KV cache.
import type { Graph } from '../graph/graph.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Weights } from '../tensor/weights.ts'

export type Feeds = Readonly<Record<string, Tensor>>

/** A graph made ready to run. Symbolic dimensions are bound anew by the feeds of each run. */
export interface Program {
  run(feeds: Feeds): Promise<Record<string, Tensor>>
  dispose(): Promise<void>
}

/** Keys and values to start a row from. */
export interface Past {
  /** [layers, heads, length, headDim] */
  readonly keys: Float32Array
  /** [layers, heads, length, headDim] */
  readonly values: Float32Array
  readonly length: number
}

export interface CacheLayout {
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  /** Sequences side by side, at most. */
  readonly rowsMax: number
  /** Cached positions of one row, prefix included, at most. */
  readonly positionsMax: number
}

/**
 * A forward program and the KV cache it works on. Rows are numbered from 0; a batch is always a run of
 * neighbouring rows, so whoever schedules keeps the rows in use together with `move`.
 */
export interface DecodeSession {
  readonly layout: CacheLayout
  /** Size of the vocabulary. */
  readonly vocabulary: number
  /** Cached positions of each row. */
  readonly lengths: Int32Array
  /** Forgets what `row` held and starts it from `past`; null: from nothing. */
  seed(row: number, past: Past | null): void
  /**
   * Appends `tokens[i]` to row `start + i` (one token or many, at least one each) and answers the logits
   * after the last token of each row: [tokens.length, vocabulary]. The buffer is overwritten by the next call.
   */
  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array>
  /** Rows at and beyond `rows` are in use no more: what they held may be forgotten. */
  trim(rows: number): void
  /** Copies row `from` over row `to`. */
  move(from: number, to: number): void
  dispose(): Promise<void>
}

export interface Runtime {
  readonly name: string
  /** `form` is that of products with frozen weights: `float32` unless said, or what `fastForm` answered. */
  compile(graph: Graph, weights: Weights, form?: string): Promise<Program>
  /**
   * The form in which this machine computes products of `graph` with frozen weights fast, and nearly as in float32; the
   * latter's name where it knows none. What comes of a form is the same bit for bit on the same kind of machine. `wanted` is
   * what an earlier run of the same work used: it is answered where this machine can.
   */
  fastForm(graph: Graph, weights: Weights, wanted?: string): Promise<string>
  /**
   * The form in which this machine decodes `forward` fast, and nearly as in float32: `float32` where it knows none, or cannot
   * keep what the form needs.
   */
  decodingForm(forward: Graph, weights: Weights): Promise<string>
  /** `form` is `float32` unless said, or what `decodingForm` answered. */
  openSession(forward: Graph, weights: Weights, layout: CacheLayout, form?: string): Promise<DecodeSession>
}

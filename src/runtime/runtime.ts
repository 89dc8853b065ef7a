// What a runtime gives: programs from graphs, and decode sessions that own a KV cache.
import type { Graph } from '../graph/graph.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Weights } from '../tensor/weights.ts'
import type { LogitChanges } from './logit-changes.ts'
import type { ResidentTraining } from './training.ts'

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
  /** Position of the first token behind it; absent: its length. */
  readonly textStart?: number
}

/** What an encoder reads for a row, and the pasts that it and cross-attention begin with. */
export interface RowSource {
  readonly tokens: readonly number[]
  readonly encoder: Past | null
  readonly cross: Past | null
}

export interface SourceRow {
  readonly row: number
  readonly source: RowSource
}

export interface CacheLayout {
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  /** Sequences side by side, at most. */
  readonly rowsMax: number
  /** Cached positions of one row, prefix included, at most. */
  readonly positionsMax: number
  /** Of a model with an encoder: positions of prefix and source that one row's cross-attention sees, at most. */
  readonly sourceMax?: number
}

/** Neighbouring rows, and what each of them gets. */
export interface SessionPart {
  readonly start: number
  /** For row `start + i`: one token or many, at least one each. */
  readonly tokens: readonly (readonly number[])[]
  /** Whether the logits after each of its tokens are wanted, in their order, and not after the last of each row alone. */
  readonly every?: boolean
}

/** How the next token of a row is chosen, where a session chooses itself. */
export interface TokenChoice {
  /** Of softmax; 0: the token of the largest logit, of equals the lowest. */
  readonly temperature: number
  /** So many of the largest logits may be drawn, and what equals the last of them; 0: all. */
  readonly topK: number
  /** Of those, the most probable that together have at least this probability; of equals the lower token first. */
  readonly topP: number
  /** In [0, 1): drawn is the token at which the probabilities of what is left, added in the order of tokens, pass it. */
  readonly uniform: number
  /** Of those, the tokens at least so many times as probable as the most probable one; absent: all. */
  readonly minP?: number
  /** Of those, the typical ones of this mass, and all as near as the last (Meister et al. 2022); absent: all. */
  readonly typicalP?: number
  /** Of some of the logits, before all of that; `logprob` is of the logits as they were. */
  readonly changes?: LogitChanges
  /** This token, whatever the logits; nothing else is chosen by then. */
  readonly forced?: number
  /** So many of the most probable tokens come beside the chosen one. */
  readonly alternatives?: number
}

export interface ScoredToken {
  readonly token: number
  /** Of softmax(logits), in nats. */
  readonly logprob: number
}

/** `token` below 0: no logit is finite. */
export interface ChosenToken extends ScoredToken {
  /** Where alternatives were asked for: the best first, of equals the lower token. */
  readonly top?: readonly ScoredToken[]
}

/** For a search: what is wanted of a row in place of one token. */
export interface BestWanted {
  /** So many of the tokens with the largest scores, at least. */
  readonly best: number
  /** Of some of the log-probabilities, not of the logits. */
  readonly changes?: LogitChanges
}

/** In no order: `best` or more, and no other token of the row has the score of one of those that `best` counts. */
export interface BestTokens {
  readonly tokens: ArrayLike<number>
  /** log softmax of the logits after the changes, in float32, not normalized anew. */
  readonly scores: ArrayLike<number>
}

/** null: the logits. Sessions answer these also for what they cannot tell. */
export type RowWanted = TokenChoice | BestWanted | null

/** What a step makes of a row: the logits after its last token, [vocabulary], the token chosen by them, or the best of them. */
export type RowOutcome = Float32Array | ChosenToken | BestTokens

/** Parts of one step, at most: rows that decode, and rows whose prompts are read. */
export const partsMax = 2

/**
 * A forward program and the KV cache it works on. Rows are numbered from 0; each part of a step is a run of
 * neighbouring rows, so whoever schedules keeps the rows in use together with `copy`.
 */
export interface DecodeSession {
  readonly layout: CacheLayout
  /** Size of the vocabulary. */
  readonly vocabulary: number
  /** Cached positions of each row. */
  readonly lengths: Int32Array
  /** Whether parts may want the logits after every token; never of a session that chooses. */
  readonly tellsEvery: boolean
  /** Forgets what `row` held and starts it from `past`, whose numbers never change; null: from nothing. */
  seed(row: number, past: Past | null): void
  /**
   * Of a model with an encoder: reads the sources of these rows in one pass, and that is what their cross-attention sees
   * until they read another. Rows that have the same object for a source share the work.
   */
  read(rows: readonly SourceRow[]): Promise<void>
  /**
   * Appends tokens to the rows of all parts in one pass over the weights and answers the logits after the last token of
   * each row, or after every one where the part says so: [rows of all parts in order, vocabulary]. The buffer is overwritten by the next call.
   */
  step(parts: readonly SessionPart[]): Promise<Float32Array>
  /**
   * `step` for sessions that choose tokens where they compute: rows with a choice come back as a token alone, those of a search as
   * their best tokens, others as their logits, and so do those for which the session cannot tell.
   */
  choose?(parts: readonly SessionPart[], wanted: readonly RowWanted[]): Promise<RowOutcome[]>
  /** A step of one part. */
  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array>
  /** These rows are in use no more: what they held may be forgotten. */
  release(rows: readonly number[]): void
  /**
   * Makes row `to` the first `until` positions of row `from`, of which the first `since` are the same in both already.
   * Of a row to itself: cuts off what is behind `until`. What row `from` has read goes with it.
   */
  copy(from: number, to: number, since: number, until: number): void
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
  /** Where trainings' whole steps can be computed and their trainables kept; otherwise optimizers work on the host. */
  readonly training?: ResidentTraining
  /** Segments of the graphs that its sessions want: `partsMax` or more where one pass over the weights serves all parts of a step. */
  readonly segments: number
  /**
   * The form in which this machine decodes `forward` fast, and nearly as in float32: `float32` where it knows none, or cannot
   * keep what the form needs.
   */
  decodingForm(forward: Graph, weights: Weights): Promise<string>
  /**
   * `forward` has `segments` segments (see the model's `forwardGraph`), or one where steps will have one part. `form` is
   * `float32` unless said, or what `decodingForm` answered. `encoder` is the model's `sourceGraph`; null and left out: it has none.
   */
  openSession(
    forward: Graph,
    weights: Weights,
    layout: CacheLayout,
    form?: string,
    encoder?: Graph | null,
  ): Promise<DecodeSession>
}

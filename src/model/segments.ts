// What goes into a decoder and what comes out of it, whichever model it belongs to.
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { Shape } from '../graph/shape.ts'

/** Where a model's attention takes keys and values from outside. */
export type PlaceName = 'decoder_self' | 'cross' | 'encoder_self'

/** Keys and values that come before what is read, in one layer. */
export interface LayerPast {
  /** [batch or 1, heads, headDim, past] */
  readonly key: Value
  /** [batch or 1, heads, past, headDim] */
  readonly value: Value
}

/** The pasts of all layers of one kind of attention. */
export interface Past {
  readonly layers: readonly LayerPast[]
  /** int32 [B or 1], or [B or 1, T] where attention is causal: how much of it each row, or each position, sees. */
  readonly lengths: Value
}

/** What an encoder reads: one source for each row of a segment. */
export interface SourceSegment {
  /** int32 [B, S] */
  readonly tokens: Value
  /** int32 [B, S] */
  readonly positions: Value
  /** int32 [B]: tokens of each source; the rest is padding, which nobody sees. */
  readonly lengths: Value
  /** Of the encoder's layers. */
  readonly past: Past
}

/** What an encoder made of such sources, once and for all where nothing in it is trained. */
export interface EncodedSource {
  /** [B, S, width]; behind a source's own positions anything. */
  readonly hidden: Value
  /** int32 [B]: positions of each source. */
  readonly lengths: Value
}

/** Sequences of one length over one past. */
export interface DecoderSegment {
  /** int32 [B, T]; or float32 [B, T, width], embeddings in the place of the tokens'. */
  readonly tokens: Value
  /** int32 [B, T] */
  readonly positions: Value
  readonly past: Past
  /** Of a model with an encoder: what its cross-attention sees, before the source or with it. */
  readonly cross?: Past
  /** Read by the encoder, or read before, and seen behind `cross`; absent where that has it already. All segments of a graph have one, or none. */
  readonly source?: SourceSegment | EncodedSource
}

export interface DecoderInputs {
  /** One or more, each of a batch and length of its own: they share the weights and nothing else. */
  readonly segments: readonly DecoderSegment[]
  /** int32 [R]: which of the B·T positions of all segments, counted one after the other, are wanted; null: all of them. */
  readonly rows: Value | null
}

/** Of each layer: [B, T, width]; of several segments [N, width], their positions one after the other. */
export interface KeysAndValues {
  readonly keys: readonly Value[]
  readonly values: readonly Value[]
}

export interface DecoderOutputs {
  /** [R, width]: what the head is applied to, at `rows`; [B, T, width] where they are all wanted. */
  readonly hidden: Value
  /** [vocabulary, width]: the embedding, which is the head too. */
  readonly table: Value
  /** [vocabulary], added to the logits; null: nothing is. */
  readonly bias: Value | null
  /** What self-attention made of the tokens. */
  readonly keys: readonly Value[]
  readonly values: readonly Value[]
  /** The same of the sources, in the attention of the encoder that read them here and in that between the two; null: there were none. */
  readonly sourceKeysAndValues: Readonly<Record<'encoder_self' | 'cross', KeysAndValues>> | null
}

/** Rows of all segments together, for what treats each row alone; one segment stays as it is. `rows` names how many. */
export function joined(g: GraphBuilder, parts: readonly Value[], rows: string): Value {
  return parts.length === 1 ? (parts[0] as Value) : g.joinRows(parts, rows)
}

/** The way back: `shapes` are [B, T] of each segment. */
export function apart(g: GraphBuilder, x: Value, shapes: readonly Shape[]): readonly Value[] {
  if (shapes.length === 1) return [x]
  return g.splitRows(
    x,
    shapes.map((shape) => [...shape, x.shape.at(-1) as number]),
  )
}

// One continuation in flight as the scheduler sees it, and the steps that carry many of them through the model.
import type { Past, RowSource } from '../runtime/runtime.ts'

/**
 * waiting: in line, holds no row. prefilling: has a row, and its prompt is read in, in pieces if it is long.
 * decoding: a token a step, and drafts that come true. finished: holds nothing. The scheduler alone writes the state, the row and `prefilled`.
 */
export type SequenceState = 'waiting' | 'prefilling' | 'decoding' | 'finished'

export interface Sequence {
  /** Tokens of the prompt, at least one. */
  readonly prompt: readonly number[]
  /** What its row starts from: the keys and values of a prefix, or nothing. */
  readonly past: Past | null
  /** What the encoder reads for its row before the prompt; absent: the model has none. */
  readonly source?: RowSource
  /** Names `past` and `source`: rows with the same name and the same first tokens hold the same. Empty for neither. */
  readonly seedKey: string
  /** Whose rows the line counts together, whatever their sources; null: those without a prefix. */
  readonly prefixId: string | null
  /** Whom its tokens are charged to. */
  readonly client: string
  /** Tokens made so far; whoever samples appends one or more after each step that ends in the state `decoding`. */
  readonly output: readonly number[]
  state: SequenceState
  /** Row of the KV cache; -1 without one. */
  row: number
  /** Tokens of the prompt that are in the cache. */
  prefilled: number
}

/** Makes row `to` the first `until` positions of row `from`; the first `since` of them are the same in both already. */
export interface Copy {
  readonly from: number
  readonly to: number
  readonly since: number
  readonly until: number
}

/** Neighbouring rows, and the tokens that each of them gets. */
export interface BatchPart<S extends Sequence = Sequence> {
  /** In the rows `start`, `start + 1`, … */
  readonly start: number
  readonly sequences: readonly S[]
  /** At least one token for each sequence. */
  readonly tokens: readonly (readonly number[])[]
  /** Whether what comes after each of its tokens is asked for: those behind the first are drafts. */
  readonly every?: boolean
}

/** One call of the model: the rows that decode, a piece of prompts, or both. */
export interface Batch<S extends Sequence = Sequence> {
  /** Rows in use, those of this batch included: 0..rows-1 after the copies. */
  readonly rows: number
  /** Rows beyond `rows` whose contents will not be asked for again. */
  readonly forgotten: readonly number[]
  /** To be made first, in this order. */
  readonly copies: readonly Copy[]
  /** Sequences that are new in their rows and find nothing to go on from there, to be seeded next. */
  readonly seeds: readonly S[]
  /** Those that get their last token, and drafts of what may follow. */
  readonly decode: BatchPart<S> | null
  /** Those whose prompts are read. */
  readonly prefill: BatchPart<S> | null
}

/** All sequences of a batch, in the order of their logits. */
export function sequencesOf<S extends Sequence>({ decode, prefill }: Batch<S>): readonly S[] {
  return [...(decode?.sequences ?? []), ...(prefill?.sequences ?? [])]
}

/** Tokens of prompts in a batch, and of the sources that are read for it. */
export function tokensRead<S extends Sequence>({ prefill, seeds }: Batch<S>): number {
  const ofPrompts = prefill?.tokens.reduce((sum, { length }) => sum + length, 0) ?? 0
  return seeds.reduce((sum, { source }) => sum + (source?.tokens.length ?? 0), ofPrompts)
}

/** Positions of a part, padding included: rows · longest of them. */
export function positionsOf({ tokens }: BatchPart): number {
  return tokens.length * Math.max(...tokens.map(({ length }) => length))
}

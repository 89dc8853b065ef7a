// Graphs of attention with its gradient, of any size, for tests that fill several tiles.
import type { GraphBuilder } from '../../../src/graph/builder.ts'
import type { Value } from '../../../src/graph/ops.ts'

export interface AttentionSize {
  readonly batch: number
  readonly queries: number
  readonly past: number
  readonly heads: number
  readonly headDim: number
  readonly pastPerRow: boolean
  readonly perQuery: boolean
}

export function attentionOf(g: GraphBuilder, s: AttentionSize): Readonly<Record<string, Value>> {
  const width = s.heads * s.headDim
  const [q, k, v] = g.split(g.input('qkv', [s.batch, s.queries, 3 * width]), 2, [width, width, width])
  const rows = s.pastPerRow ? s.batch : 1
  const inputs = [
    q!,
    k!,
    v!,
    g.input('pastKey', [rows, s.heads, s.headDim, s.past]),
    g.input('pastValue', [rows, s.heads, s.past, s.headDim]),
    g.input('lengths', s.perQuery ? [s.batch, s.queries] : [s.batch], 'int32'),
  ] as const
  const out = g.attention(inputs, s.heads)
  if (s.queries === 1) return { out }
  const [dq, dk, dv, dPastKey, dPastValue] = g.attentionGrad(
    inputs,
    g.input('ct', [s.batch, s.queries, width]),
    s.heads,
  )
  // As in the gradient of a model: the three go side by side into one projection.
  return { out, projected: g.concat([dq!, dk!, dv!], 2), dPastKey: dPastKey!, dPastValue: dPastValue! }
}

/** Cross-attention over a past and keys beside it, in no order, and its gradient. */
export function crossAttentionOf(g: GraphBuilder, s: AttentionSize, keys: number): Readonly<Record<string, Value>> {
  const width = s.heads * s.headDim
  const rows = s.pastPerRow ? s.batch : 1
  const inputs = [
    g.input('q', [s.batch, s.queries, width]),
    g.input('pastKey', [rows, s.heads, s.headDim, s.past]),
    g.input('pastValue', [rows, s.heads, s.past, s.headDim]),
    g.input('lengths', s.perQuery ? [s.batch, s.queries] : [s.batch], 'int32'),
    g.input('k', [s.batch, keys, width]),
    g.input('v', [s.batch, keys, width]),
    g.input('keyLengths', [s.batch], 'int32'),
  ] as const
  const out = g.crossAttention(inputs, s.heads)
  const [dq, dPastKey, dPastValue, dk, dv] = g.crossAttentionGrad(
    inputs,
    g.input('ct', [s.batch, s.queries, width]),
    s.heads,
  )
  return { out, dq: dq!, dPastKey: dPastKey!, dPastValue: dPastValue!, dk: dk!, dv: dv! }
}

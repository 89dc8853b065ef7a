// Attention in no order and its gradient in ONNX: over a past, or over a past and keys beside it with one softmax over both.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { fedByPosition } from './keys-by-position.ts'
import { joinHeads, lengthBias, overBatch, product, scaledBefore, sideBySide, splitHeads } from './lower-attention.ts'

type Inputs = Ops['crossAttention']['inputs']

/** Keys and values beside the past. */
interface Beside {
  readonly key: string // [batch, heads, source, headDim]
  readonly value: string
  readonly weights: string // [batch, heads, query, source]
  readonly sizes: string // int64 [past, source]
}

interface Heads {
  readonly query: string // [batch, heads, query, headDim]
  readonly weights: string // [batch, heads, query, past + source]
  readonly pastWeights: string // [batch, heads, query, past]
  readonly beside: Beside | null
  readonly scale: number
}

export function lowerCrossAttention(e: Emitter, node: Node<'crossAttention'>): void {
  const [query, , pastValue] = node.inputs
  const { pastWeights, beside } = emitHeads(e, node.inputs, node.attributes.heads)
  const past = e.emit('MatMul', [pastWeights, e.full(pastValue)])
  const mixed = beside === null ? past : e.emit('Add', [past, e.emit('MatMul', [beside.weights, beside.value])])
  e.setFlat(node.outputs[0] as Value, joinHeads(e, mixed, query))
}

export function lowerCrossAttentionGrad(e: Emitter, node: Node<'crossAttentionGrad'>): void {
  const { heads } = node.attributes
  const inputs = node.inputs.slice(0, -1) as unknown as Inputs
  const [query, pastKey, pastValue] = inputs
  const { beside, scale, ...h } = emitHeads(e, inputs, heads)
  const dOut = splitHeads(e, node.inputs.at(-1) as Value, heads)

  // ds = a·(da − Σ a·da), the derivative of softmax.
  const dPastWeights = product(e, dOut, e.full(pastValue), { transB: 1 })
  const dWeights =
    beside === null ? dPastWeights : sideBySide(e, [dPastWeights, product(e, dOut, beside.value, { transB: 1 })])
  const weighed = e.emit('Mul', [h.weights, dWeights])
  const total = e.emit('ReduceSum', [weighed, e.integers([-1])])
  const dScores = e.emit('Sub', [weighed, e.emit('Mul', [h.weights, total])])
  const [dPast, dBeside] =
    beside === null ? [dScores, ''] : (e.emitMany('Split', [dScores, beside.sizes], 2, alongKeys) as [string, string])

  const fromPast = product(e, dPast, e.full(pastKey), { transB: 1, scale })
  const dQuery = beside === null ? fromPast : e.emit('Add', [fromPast, product(e, dBeside, beside.key, { scale })])
  const [ofQuery, ofPastKey, ofPastValue, ofKey, ofValue] = node.outputs
  e.setFlat(ofQuery as Value, joinHeads(e, dQuery, query))
  e.setFull(ofPastKey as Value, overBatch(e, product(e, h.query, dPast, { transA: 1, scale }), pastKey))
  e.setFull(ofPastValue as Value, overBatch(e, product(e, h.pastWeights, dOut, { transA: 1 }), pastValue))
  if (beside === null || ofKey === undefined || ofValue === undefined) return
  e.setFlat(ofKey, joinHeads(e, product(e, dBeside, h.query, { transA: 1, scale }), ofKey))
  e.setFlat(ofValue, joinHeads(e, product(e, beside.weights, dOut, { transA: 1 }), ofValue))
}

const alongKeys = { attributes: { axis: 3 } }

function emitHeads(e: Emitter, inputs: Inputs, heads: number): Heads {
  const [q, pastKey, , pastLengths, k, v, keyLengths] = inputs
  const query = splitHeads(e, q, heads)
  const scale = 1 / Math.sqrt((q.shape[2] as number) / heads)
  const fed = fedByPosition(pastKey)
  const pastScores =
    fed === null
      ? product(e, query, e.full(pastKey), { scale })
      : product(e, scaledBefore(e, query, scale, heads), e.full(fed), { transB: 1 })
  const pastBias = lengthBias(e, pastKey.shape[3]!, pastLengths)
  const softmax = (scores: string, bias: string): string =>
    e.emit('Softmax', [e.emit('Add', [scores, bias])], { attributes: { axis: -1 } })
  if (k === undefined || v === undefined || keyLengths === undefined) {
    const weights = softmax(pastScores, pastBias)
    return { query, weights, pastWeights: weights, beside: null, scale }
  }
  const [key, value] = [k, v].map((each) => splitHeads(e, each, heads)) as [string, string]
  const scores = sideBySide(e, [pastScores, product(e, query, key, { transB: 1, scale })])
  // Past lengths of one row are those of all.
  const seen = e.emit('Expand', [pastBias, e.shape([q.shape[0]!, 1, 1, 1])])
  const weights = softmax(scores, sideBySide(e, [seen, lengthBias(e, k.shape[1]!, keyLengths)]))
  const sizes = e.shape([pastKey.shape[3]!, k.shape[1]!])
  const [pastWeights, besideWeights] = e.emitMany('Split', [weights, sizes], 2, alongKeys) as [string, string]
  return { query, weights, pastWeights, beside: { key, value, weights: besideWeights, sizes }, scale }
}

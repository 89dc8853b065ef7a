// Attention that a gradient follows, and that gradient, in ONNX: keys and values of the past lie before the new ones.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { joinHeads, joinLater, splitAll, splitHeads } from './heads.ts'
import { attentionBias, overBatch, product, turned } from './lower-attention.ts'

interface Heads {
  readonly query: string // [batch, heads, query, headDim]
  readonly key: string // [batch, heads, past + query, headDim]
  readonly value: string // [batch, heads, past + query, headDim]
  readonly weights: string // [batch, heads, query, past + query]
  readonly scale: number
}

export function lowerTrainedAttention(e: Emitter, node: Node<'attention'>): void {
  const { weights, value } = emitHeads(e, node.inputs, node.attributes.heads)
  const rows = joinHeads(e, e.emit('MatMul', [weights, value]), node.inputs[0], node.attributes.heads)
  e.setFlat(node.outputs[0] as Value, rows)
}

export function lowerAttentionGrad(e: Emitter, node: Node<'attentionGrad'>): void {
  const [query, key, value, pastKey, pastValue, pastLengths, ct] = node.inputs
  const { heads } = node.attributes
  const { scale, ...h } = emitHeads(e, [query, key, value, pastKey, pastValue, pastLengths], heads)
  const dOut = splitHeads(e, ct, heads)

  // ds = a·(da − Σ a·da), the derivative of softmax.
  const weighed = e.emit('Mul', [h.weights, product(e, dOut, h.value, { transB: 1 })])
  const total = e.emit('ReduceSum', [weighed, e.integers([-1])])
  const dScores = e.emit('Sub', [weighed, e.emit('Mul', [h.weights, total])])

  const first = pastKey.shape[3]!
  const dKey = joinLater(e, product(e, dScores, h.query, { transA: 1, scale }), { first, like: key, heads })
  const dValue = joinLater(e, product(e, h.weights, dOut, { transA: 1 }), { first, like: value, heads })
  const [ofQuery, ofKey, ofValue, ofPastKey, ofPastValue] = node.outputs as [Value, Value, Value, Value, Value]
  e.setFlat(ofQuery, joinHeads(e, product(e, dScores, h.key, { scale }), query, heads))
  e.setFlat(ofKey, dKey.rows)
  e.setFlat(ofValue, dValue.rows)
  e.setFull(ofPastKey, turned(e, overBatch(e, dKey.before, pastKey)))
  e.setFull(ofPastValue, overBatch(e, dValue.before, pastValue))
}

/** They are put one behind the other, and not scores: those would have to be cut again, and what is made of each part added. */
function emitHeads(e: Emitter, inputs: Ops['attention']['inputs'], heads: number): Heads {
  const [q, k, v, pastKey, pastValue, pastLengths] = inputs
  const [query, newKey, newValue] = splitAll(e, [q, k, v], heads)
  const ofEach = e.shape([q.shape[0]!, 1, 1, 1])
  const behind = (past: string, fresh: string): string =>
    e.emit('Concat', [e.emit('Expand', [past, ofEach]), fresh], { attributes: { axis: 2 } })
  const key = behind(turned(e, e.full(pastKey)), newKey)
  const value = behind(e.full(pastValue), newValue)
  const scale = 1 / Math.sqrt((q.shape[2] as number) / heads)
  const products = product(e, query, key, { transB: 1, scale })
  const scores = e.emit('Add', [products, attentionBias(e, q, pastKey, pastLengths)])
  return { query, key, value, weights: e.emit('Softmax', [scores], { attributes: { axis: -1 } }), scale }
}

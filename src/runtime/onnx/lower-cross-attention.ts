// Attention in no order and its gradient in ONNX: over a past, or over a past and keys beside it with one softmax over both.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { fedByPosition } from './keys-by-position.ts'
import { joinHeads, joinLater, splitHeads } from './heads.ts'
import { lengthBias, overBatch, product, scaledBefore, sideBySide, turned } from './lower-attention.ts'

type Inputs = Ops['crossAttention']['inputs']

interface Heads {
  readonly query: string // [batch, heads, query, headDim]
  /** Of past and source one after the other; the past's alone where there is no source. */
  readonly key: string // [batch or 1, heads, past + source, headDim]; [.., headDim, past] of a past alone, unless fed by position
  readonly value: string // [batch or 1, heads, past + source, headDim]
  readonly weights: string // [batch, heads, query, past + source]
  readonly scale: number
}

export function lowerCrossAttention(e: Emitter, node: Node<'crossAttention'>): void {
  const [q, , , , source] = node.inputs
  if (source !== undefined && e.provider === 'cpu' && !e.isUsedBy(q, 'crossAttentionGrad'))
    return e.setFull(node.outputs[0] as Value, attendAtOnce(e, node))
  const { weights, value } = emitHeads(e, node.inputs, node.attributes.heads)
  e.setFlat(node.outputs[0] as Value, joinHeads(e, e.emit('MatMul', [weights, value]), q, node.attributes.heads))
}

export function lowerCrossAttentionGrad(e: Emitter, node: Node<'crossAttentionGrad'>): void {
  const { heads } = node.attributes
  const inputs = node.inputs.slice(0, -1) as unknown as Inputs
  const [query, pastKey, pastValue, , source] = inputs
  const { scale, ...h } = emitHeads(e, inputs, heads)
  const dOut = splitHeads(e, node.inputs.at(-1) as Value, heads)

  // ds = a·(da − Σ a·da), the derivative of softmax.
  const weighed = e.emit('Mul', [h.weights, product(e, dOut, h.value, { transB: 1 })])
  const total = e.emit('ReduceSum', [weighed, e.integers([-1])])
  const dScores = e.emit('Sub', [weighed, e.emit('Mul', [h.weights, total])])

  const [ofQuery, ofPastKey, ofPastValue, ofKey, ofValue] = node.outputs
  const isAlone = source === undefined || ofKey === undefined || ofValue === undefined
  e.setFlat(
    ofQuery as Value,
    joinHeads(e, product(e, dScores, h.key, { scale, transB: isAlone ? 1 : 0 }), query, heads),
  )
  const dValue = product(e, h.weights, dOut, { transA: 1 })
  if (isAlone) {
    e.setFull(ofPastKey as Value, overBatch(e, product(e, h.query, dScores, { transA: 1, scale }), pastKey))
    return e.setFull(ofPastValue as Value, overBatch(e, dValue, pastValue))
  }
  const first = pastKey.shape[3]!
  const dKey = joinLater(e, product(e, dScores, h.query, { transA: 1, scale }), { first, like: ofKey, heads })
  const ofAll = joinLater(e, dValue, { first, like: ofValue, heads })
  e.setFull(ofPastKey as Value, overBatch(e, turned(e, dKey.before), pastKey))
  e.setFull(ofPastValue as Value, overBatch(e, ofAll.before, pastValue))
  e.setFlat(ofKey, dKey.rows)
  e.setFlat(ofValue, ofAll.rows)
}

/** Where no gradient wants what comes in between: a head's scores never leave the processor's cache. [batch, query, heads·headDim] */
function attendAtOnce(e: Emitter, { inputs, attributes: { heads } }: Node<'crossAttention'>): string {
  const { key, value, bias } = besideHeads(e, inputs, heads)
  const [q] = inputs
  const wide = e.emit('Expand', [bias, e.shape([1, 1, q.shape[1]!, 1])])
  const attributes = { num_heads: heads }
  return e.emit('MultiHeadAttention', [e.full(q), key, value, '', '', wide], { attributes, domain: 'com.microsoft' })
}

/** Keys and values [batch, heads, past + source, headDim], and what is added to scores, [batch, 1, 1, past + source]. */
function besideHeads(e: Emitter, inputs: Inputs, heads: number): Record<'key' | 'value' | 'bias', string> {
  const [q, pastKey, pastValue, pastLengths, ...source] = inputs
  const [k, v, keyLengths] = source as unknown as readonly [Value, Value, Value]
  // They are put one behind the other, and not scores: those are many times as large.
  const batch = q.shape[0]!
  const behind = (past: string, source: Value): string =>
    e.emit('Concat', [e.emit('Expand', [past, e.shape([batch, 1, 1, 1])]), splitHeads(e, source, heads)], {
      attributes: { axis: 2 },
    })
  // Past lengths of one row are those of all.
  const seen = e.emit('Expand', [lengthBias(e, pastKey.shape[3]!, pastLengths), e.shape([batch, 1, 1, 1])])
  return {
    key: behind(turned(e, e.full(pastKey)), k),
    value: behind(e.full(pastValue), v),
    bias: sideBySide(e, [seen, lengthBias(e, k.shape[1]!, keyLengths)]),
  }
}

function emitHeads(e: Emitter, inputs: Inputs, heads: number): Heads {
  const [q, pastKey, pastValue, pastLengths, source] = inputs
  const query = splitHeads(e, q, heads)
  const scale = 1 / Math.sqrt((q.shape[2] as number) / heads)
  const softmax = (scores: string, bias: string): string =>
    e.emit('Softmax', [e.emit('Add', [scores, bias])], { attributes: { axis: -1 } })
  if (source !== undefined) {
    const { key, value, bias } = besideHeads(e, inputs, heads)
    return { query, key, value, weights: softmax(product(e, query, key, { transB: 1, scale }), bias), scale }
  }
  const fed = fedByPosition(pastKey)
  const [key, value] = [e.full(fed ?? pastKey), e.full(pastValue)]
  const scores =
    fed === null
      ? product(e, query, key, { scale })
      : product(e, scaledBefore(e, query, scale, heads), key, { transB: 1 })
  return { query, key, value, weights: softmax(scores, lengthBias(e, pastKey.shape[3]!, pastLengths)), scale }
}

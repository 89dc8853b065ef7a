// Attention in ONNX where no gradient follows: past and new positions in two parts, with one softmax over both.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Dim } from '../../graph/shape.ts'
import type { Emitter } from './emitter.ts'
import { joinHeads, splitAll } from './heads.ts'
import { fedByPosition } from './keys-by-position.ts'
import { elementTypes } from './schema.ts'

/** Added to a score that must not be seen: its exponential is 0 in float32. */
const hidden = -1e30

interface Heads {
  readonly value: string // [batch, heads, query, headDim]
  readonly pastWeights: string // [batch, heads, query, past]
  readonly newWeights: string // [batch, heads, query, query]
}

export function lowerAttention(e: Emitter, node: Node<'attention'>): void {
  const [, , , , pastValue] = node.inputs
  const { pastWeights, newWeights, value } = emitHeads(e, node.inputs, node.attributes.heads)
  const mixed = e.emit('Add', [
    e.emit('MatMul', [pastWeights, e.full(pastValue)]),
    e.emit('MatMul', [newWeights, value]),
  ])
  e.setFlat(node.outputs[0] as Value, joinHeads(e, mixed, node.inputs[0], node.attributes.heads))
}

function emitHeads(e: Emitter, inputs: Ops['attention']['inputs'], heads: number): Heads {
  const [q, k, v, pastKey, , pastLengths] = inputs
  const [query, key, value] = splitAll(e, [q, k, v], heads)
  const scale = 1 / Math.sqrt((q.shape[2] as number) / heads)
  const scores = e.emit('Add', [
    products(e, { query, key, scale }, pastKey, heads),
    attentionBias(e, q, pastKey, pastLengths),
  ])
  const weights = e.emit('Softmax', [scores], { attributes: { axis: -1 } })
  const sizes = e.shape([pastKey.shape[3]!, q.shape[1]!])
  const [pastWeights, newWeights] = e.emitMany('Split', [weights, sizes], 2, { attributes: { axis: 3 } }) as [
    string,
    string,
  ]
  return { value, pastWeights, newWeights }
}

/** scale · query · keysᵀ over past and new positions, [batch, heads, query, past + query]. */
function products(
  e: Emitter,
  { query, key, scale }: { readonly query: string; readonly key: string; readonly scale: number },
  pastKey: Value,
  heads: number,
): string {
  const fed = fedByPosition(pastKey)
  if (fed === null)
    return sideBySide(e, [product(e, query, e.full(pastKey), { scale }), product(e, query, key, { transB: 1, scale })])
  const scaled = scaledBefore(e, query, scale, heads)
  return sideBySide(e, [product(e, scaled, e.full(fed), { transB: 1 }), product(e, scaled, key, { transB: 1 })])
}

/**
 * scale · query, [batch, heads, query, headDim], for keys that are fed by position: onnxruntime's kernel for a single query reads
 * them without packing them, but knows no factor; by a tensor, as a scalar would be moved back into the product.
 */
export function scaledBefore(e: Emitter, query: string, scale: number, heads: number): string {
  return e.emit('Mul', [query, e.emit('Expand', [e.float(scale), e.integers([heads, 1, 1])])])
}

export interface ProductOptions {
  readonly transA?: 0 | 1
  readonly transB?: 0 | 1
  readonly scale?: number
}

/** scale · a · b of [batch, heads, rows, columns], each turned first where said. */
export function product(
  e: Emitter,
  a: string,
  b: string,
  { transA = 0, transB = 0, scale = 1 }: ProductOptions,
): string {
  if (e.provider === 'webgpu') {
    // It has no product that turns or scales: what it lacks would be computed by the CPU, its inputs fetched for that.
    const [left, right] = [transA === 1 ? turned(e, a) : a, transB === 1 ? turned(e, b) : b]
    return e.emit('MatMul', [scale === 1 ? left : e.emit('Mul', [left, e.float(scale)]), right])
  }
  return e.emit('FusedMatMul', [a, b], {
    attributes: { transA, transB, alpha: { float: scale } },
    domain: 'com.microsoft',
  })
}

/** The last two axes change places. */
export function turned(e: Emitter, name: string): string {
  return e.emit('Transpose', [name], { attributes: { perm: [0, 1, 3, 2] } })
}

/** A past that serves every row of the batch gets the sum of their cotangents. */
export function overBatch(e: Emitter, name: string, past: Value): string {
  return past.shape[0] === 1 ? e.emit('ReduceSum', [name, e.integers([0])]) : name
}

/** 0, 1, … up to a dimension: int64, on `webgpu` int32, since it compares no larger ones. */
function countTo(e: Emitter, dim: string | number): string {
  if (e.provider === 'webgpu') {
    const narrow = (name: string): string => e.emit('Cast', [name], { attributes: { to: elementTypes.int32 } })
    const end =
      typeof dim === 'number' ? e.narrowInteger(dim) : narrow(e.emit('Squeeze', [e.dimension(dim), e.integers([0])]))
    return e.emit('Range', [e.narrowInteger(0), end, e.narrowInteger(1)])
  }
  const end = typeof dim === 'number' ? e.integer(dim) : e.emit('Squeeze', [e.dimension(dim), e.integers([0])])
  return e.emit('Range', [e.integer(0), end, e.integer(1)])
}

/** Past and new positions along the last axis. */
export function sideBySide(e: Emitter, parts: readonly string[]): string {
  return e.emit('Concat', parts, { attributes: { axis: 3 } })
}

/** [batch or 1, 1, query, past + query]: 0 where a query sees a position. Made once for all layers. */
export function attentionBias(e: Emitter, query: Value, pastKey: Value, pastLengths: Value): string {
  const [rows, queries] = [pastLengths.shape[0]!, query.shape[1]!]
  const seen = lengthBias(e, pastKey.shape[3]!, pastLengths)
  const past = pastLengths.shape.length > 1 ? seen : e.emit('Expand', [seen, e.shape([1, 1, queries, 1])])
  const fresh = e.emit('Expand', [causalBias(e, query), e.shape([rows, 1, 1, 1])])
  return sideBySide(e, [past, fresh])
}

/** [batch or 1, 1, query or 1, positions]: 0 where the position is below the length of the row, or of the query. */
export function lengthBias(e: Emitter, positions: Dim, of: Value): string {
  const whole =
    e.provider === 'webgpu' ? e.full(of) : e.emit('Cast', [e.full(of)], { attributes: { to: elementTypes.int64 } })
  const lengths =
    of.shape.length > 1
      ? e.emit('Unsqueeze', [whole, e.integers([1, 3])])
      : e.emit('Reshape', [whole, e.integers([-1, 1, 1, 1])])
  const seen = e.emit('Less', [countTo(e, positions), lengths])
  return e.emit('Where', [seen, e.float(0), e.float(hidden)])
}

/** [query, query]: 0 on and below the diagonal. */
function causalBias(e: Emitter, query: Value): string {
  const positions = countTo(e, query.shape[1]!)
  const rows = e.emit('Reshape', [positions, e.integers([-1, 1])])
  return e.emit('Where', [e.emit('LessOrEqual', [positions, rows]), e.float(0), e.float(hidden)])
}

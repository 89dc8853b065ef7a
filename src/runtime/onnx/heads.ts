// Rows cut into heads and joined again in ONNX: by a transposition, or by indices that all layers of a training share.
import type { Value } from '../../graph/ops.ts'
import type { Dim } from '../../graph/shape.ts'
import type { Emitter } from './emitter.ts'

/** [batch, query, heads·headDim] → [batch, heads, query, headDim] */
export function splitHeads(e: Emitter, value: Value, heads: number): string {
  const [batch, queries, width] = value.shape as [Dim, Dim, number]
  if (areGathered(e)) return gatherParts(e, value, heads, 1)[0] as string
  const shape = e.shape([batch, queries, heads, width / heads])
  return e.emit('Transpose', [e.emit('Reshape', [e.flat(value), shape])], { attributes: { perm: [0, 2, 1, 3] } })
}

/** Query, key and value in heads; where they are cut from one projection, as in GPT-2, they are turned together. */
export function splitAll(
  e: Emitter,
  [q, k, v]: readonly [Value, Value, Value],
  heads: number,
): readonly [string, string, string] {
  const { node } = q
  const isOneCut = node.op === 'split' && [q, k, v].every((each, i) => each.node === node && each.index === i)
  if (!isOneCut || node.outputs.length !== 3)
    return [splitHeads(e, q, heads), splitHeads(e, k, heads), splitHeads(e, v, heads)]
  const whole = node.inputs[0]
  if (areGathered(e)) return gatherParts(e, whole, heads, 3) as [string, string, string]
  const turned = splitHeads(e, whole, 3 * heads)
  const sizes = e.integers([heads, heads, heads])
  return e.emitMany('Split', [turned, sizes], 3, { attributes: { axis: 1 } }) as [string, string, string]
}

/** [batch, heads, query, headDim] → rows of heads·headDim, [batch, query, heads·headDim] as `like` is. */
export function joinHeads(e: Emitter, name: string, like: Value, heads: number): string {
  const [batch, queries, width] = like.shape as [Dim, Dim, number]
  if (areGathered(e))
    return joinedRows(e, vectorsOf(e, name, width / heads), countedAs(e, [batch, heads], [queries]), width)
  const transposed = e.emit('Transpose', [name], { attributes: { perm: [0, 2, 1, 3] } })
  return e.emit('Reshape', [transposed, e.integers([-1, width])])
}

interface JoinLater {
  /** Positions that come before those of `like`. */
  readonly first: Dim
  readonly like: Value
  readonly heads: number
}

interface Later {
  /** [batch, heads, first, headDim] */
  readonly before: string
  /** Rows of heads·headDim. */
  readonly rows: string
}

/** [batch, heads, first + query, headDim] → the first positions as they are, and the others joined. */
export function joinLater(e: Emitter, name: string, { first, like, heads }: JoinLater): Later {
  const [batch, queries, width] = like.shape as [Dim, Dim, number]
  const cut = (whole: string): readonly [string, string] =>
    e.emitMany('Split', [whole, e.shape([first, queries])], 2, { attributes: { axis: 2 } }) as [string, string]
  if (!areGathered(e)) {
    const [before, later] = cut(name)
    return { before, rows: joinHeads(e, later, like, heads) }
  }
  const vectors = vectorsOf(e, name, width / heads)
  const [before, later] = cut(countedAs(e, [batch, heads], [first, queries]))
  return { before: gathered(e, vectors, before), rows: joinedRows(e, vectors, later, width) }
}

/** `indices` [batch, heads, query] of vectors */
function joinedRows(e: Emitter, vectors: string, indices: string, width: number): string {
  return e.emit('Reshape', [gathered(e, vectors, turnedIndices(e, indices)), e.integers([-1, width])])
}

/**
 * onnxruntime turns with one thread and copies what is split once more; vectors of headDim numbers are fetched in any order by all
 * threads. Their indices are found once for all layers, which pays where there are many positions.
 */
const areGathered = (e: Emitter): boolean =>
  e.provider === 'cpu' && (e.has('attentionGrad') || e.has('crossAttentionGrad'))

/** [batch, query, parts·heads·headDim] → so many [batch, heads, query, headDim] */
function gatherParts(e: Emitter, value: Value, heads: number, parts: number): readonly string[] {
  const [batch, queries, width] = value.shape as [Dim, Dim, number]
  const vectors = vectorsOf(e, e.flat(value), width / heads / parts)
  const turned = turnedIndices(e, countedAs(e, [batch, queries], [heads * parts]))
  if (parts === 1) return [gathered(e, vectors, turned)]
  const sizes = e.integers(Array.from({ length: parts }, () => heads))
  return e
    .emitMany('Split', [turned, sizes], parts, { attributes: { axis: 1 } })
    .map((indices) => gathered(e, vectors, indices))
}

const vectorsOf = (e: Emitter, name: string, headDim: number): string =>
  e.emit('Reshape', [name, e.integers([-1, headDim])])

const gathered = (e: Emitter, vectors: string, indices: string): string =>
  e.emit('Gather', [vectors, indices], { attributes: { axis: 0 } })

const turnedIndices = (e: Emitter, indices: string): string =>
  e.emit('Transpose', [indices], { attributes: { perm: [0, 2, 1] } })

/** 0, 1, … as int64 of the shape [...outer, sum of last]. */
function countedAs(e: Emitter, outer: readonly Dim[], last: readonly Dim[]): string {
  const sizes = e.shape(last)
  const extent = last.length === 1 ? sizes : e.emit('ReduceSum', [sizes, e.integers([0])])
  const shape = e.emit('Concat', [e.shape(outer), extent], { attributes: { axis: 0 } })
  const count = e.emit('ReduceProd', [shape], { attributes: { keepdims: 0 } })
  return e.emit('Reshape', [e.emit('Range', [e.integer(0), count, e.integer(1)]), shape])
}

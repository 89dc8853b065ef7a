// Attention as one kernel: queries, keys and values stay where they are, rows of one projection.
import assert from 'node:assert/strict'
import type { Node, Value } from '../../graph/ops.ts'
import { blockQueries, scoreBytes } from './kernels/attention.ts'
import type { Lowering } from './lowering.ts'
import type { Arguments, View } from './steps.ts'

interface Inputs {
  readonly query: Value
  readonly key: Value | null
  readonly value: Value | null
  readonly pastKey: Value
  readonly pastValue: Value
  readonly pastLengths: Value
  /** null: each query sees the new ones up to its own. */
  readonly keyLengths: Value | null
}

export function lowerAttention(l: Lowering, node: Node<'attention'>): void {
  const [query, key, value, pastKey, pastValue, pastLengths] = node.inputs
  emit(l, { query, key, value, pastKey, pastValue, pastLengths, keyLengths: null }, node, l.appends)
}

export function lowerCrossAttention(l: Lowering, node: Node<'crossAttention'>): void {
  const [query, pastKey, pastValue, pastLengths, key = null, value = null, keyLengths = null] = node.inputs
  const inputs = { query, key, value, pastKey, pastValue, pastLengths, keyLengths }
  emit(l, inputs, node, false)
}

function emit(l: Lowering, inputs: Inputs, node: Node<'attention' | 'crossAttention'>, appends: boolean): void {
  const { heads } = node.attributes
  const out = node.outputs[0] as Value
  const { query, key, value, pastLengths, keyLengths } = inputs
  const [batch, queries, width] = l.shapeOf(query) as [number, number, number]
  const headDim = width / heads
  const pastKey = pastOf(l, inputs.pastKey)
  const pastValue = l.view(inputs.pastValue)
  const [pastBatch, , past] = l.shapeOf(inputs.pastValue) as [number, number, number, number]
  const keys = key === null ? 0 : (l.shapeOf(key)[1] as number)
  l.positionsSeen = Math.max(l.positionsSeen, past + keys)
  const [lengths] = l.shapeOf(pastLengths)
  assert.ok(l.shapeOf(pastLengths).length === 1, 'each query sees as much of the past as the others')
  const [from, to] = [l.view(query), l.output(out)]
  const fresh = (each: Value | null): Fresh => (each === null ? nothing : freshOf(l, each, heads, queries))
  const [newKey, newValue] = [fresh(key), fresh(value)]
  const blocks = Math.ceil(queries / blockQueries)
  l.step('attention', batch * heads * blocks, {
    query: { place: from },
    queryStride: 4 * from.stride,
    queries,
    pastKey: { place: pastKey },
    pastValue: { place: pastValue },
    pastRow: pastBatch === 1 ? 0 : 4 * heads * past * headDim,
    pastHead: 4 * past * headDim,
    pastLengths: { place: l.view(pastLengths) },
    lengthStep: lengths === 1 ? 0 : 4,
    key: newKey.place,
    value: newValue.place,
    keyStride: newKey.stride,
    valueStride: newValue.stride,
    keyRow: newKey.row,
    valueRow: newValue.row,
    keyHead: newKey.head,
    valueHead: newValue.head,
    keys,
    keyLengths: keyLengths && { place: l.view(keyLengths) },
    heads,
    out: { place: to },
    outStride: 4 * to.stride,
    scale: { float: 1 / Math.sqrt(headDim) },
    blocks,
    blockQueries,
    scoreStride: scoreBytes(past + keys),
    room: appends ? past : 0,
  })
}

/** Where new keys, or values, lie, and bytes from one to the next. */
interface Fresh {
  readonly place: Arguments<'attention'>['key']
  readonly stride: number
  readonly row: number
  readonly head: number
}
const nothing: Fresh = { place: null, stride: 0, row: 0, head: 0 }

/**
 * For one query they stay rows of a projection. Many queries read them again and again, and rows of a width that is a multiple of a
 * power of two meet in few lines of a cache: so they are put behind each other, head by head.
 */
function freshOf(l: Lowering, value: Value, heads: number, queries: number): Fresh {
  const [batch, count, width] = l.shapeOf(value) as [number, number, number]
  const [view, headDim] = [l.view(value), width / heads]
  const stride = 4 * view.stride
  if (queries < blockQueries) return { place: { place: view }, stride, row: count * stride, head: 4 * headDim }
  const place = { place: { storage: l.temporary(4 * batch * count * width), offset: 0 } }
  const head = 4 * count * headDim
  l.step('copy', heads, {
    from: { place: view },
    to: place,
    middle: batch,
    inner: count,
    width: headDim,
    fromOuter: 4 * headDim,
    fromMiddle: count * stride,
    fromInner: stride,
    toOuter: head,
    toMiddle: heads * head,
    toInner: 4 * headDim,
  })
  return { place, stride: 4 * headDim, row: heads * head, head }
}

/** Past keys [batch or 1, heads, position, headDim], as they are fed behind a transpose (`keys-by-position.ts`). */
function pastOf(l: Lowering, pastKey: Value): View {
  const { node } = pastKey
  assert.ok(node.op === 'transpose' && node.attributes.permutation.join() === '0,1,3,2', 'past keys lie by position')
  return l.view(node.inputs[0])
}

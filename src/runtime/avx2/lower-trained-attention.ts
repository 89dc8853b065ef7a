// Attention that a gradient follows, and that gradient, as products over all rows and heads, and softmax between them.
import assert from 'node:assert/strict'
import type { Node, Value } from '../../graph/ops.ts'
import { panelColumns } from './kernels/packing.ts'
import { emitGemm, type Operand, panelsOf } from './lower-gemm.ts'
import type { Lowering } from './lowering.ts'
import type { View } from './steps.ts'

interface Inputs {
  readonly query: Value
  readonly pastKey: Value
  readonly pastValue: Value
  readonly pastLengths: Value
  readonly key: Value | null
  readonly value: Value | null
  /** null: each query sees the new ones up to its own. */
  readonly keyLengths: Value | null
}

/** Extents, and what lies where: scores [heads, batch, queries, width], past positions first, both parts in whole panels. */
interface Extents {
  readonly heads: number
  readonly batch: number
  readonly queries: number
  readonly headDim: number
  readonly past: number
  readonly pastBatch: number
  readonly keys: number
  /** Where scores of new keys begin. */
  readonly newAt: number
  readonly width: number
}

export function lowerTrainedAttention(l: Lowering, node: Node<'attention'>): void {
  forward(l, causal(node.inputs), node.attributes.heads, node.outputs[0] as Value)
}

export function lowerTrainedCrossAttention(l: Lowering, node: Node<'crossAttention'>): void {
  forward(l, crossing(node.inputs), node.attributes.heads, node.outputs[0] as Value)
}

export function lowerAttentionGrad(l: Lowering, node: Node<'attentionGrad'>): void {
  const [query, key, value, pastKey, pastValue] = node.outputs as readonly [Value, Value, Value, Value, Value]
  const ct = node.inputs[6]
  const outputs = { query, key, value, pastKey, pastValue }
  const [q, k, v, pk, pv, lengths] = node.inputs
  backward(l, causal([q, k, v, pk, pv, lengths]), node.attributes.heads, ct, outputs)
}

export function lowerCrossAttentionGrad(l: Lowering, node: Node<'crossAttentionGrad'>): void {
  const [query, pastKey, pastValue, key = null, value = null] = node.outputs as readonly [Value, Value, Value]
  const inputs = node.inputs.slice(0, -1) as unknown as Node<'crossAttention'>['inputs']
  const ct = node.inputs.at(-1) as Value
  backward(l, crossing(inputs), node.attributes.heads, ct, { query, pastKey, pastValue, key, value })
}

const causal = ([query, key, value, pastKey, pastValue, pastLengths]: Node<'attention'>['inputs']): Inputs => ({
  query,
  key,
  value,
  pastKey,
  pastValue,
  pastLengths,
  keyLengths: null,
})

function crossing(inputs: Node<'crossAttention'>['inputs']): Inputs {
  const [query, pastKey, pastValue, pastLengths, key = null, value = null, keyLengths = null] = inputs
  return { query, key, value, pastKey, pastValue, pastLengths, keyLengths }
}

function extentsOf(l: Lowering, { query, key, pastValue }: Inputs, heads: number): Extents {
  const [batch, queries, width] = l.shapeOf(query) as [number, number, number]
  const [pastBatch, , past] = l.shapeOf(pastValue) as [number, number, number, number]
  const keys = key === null ? 0 : (l.shapeOf(key)[1] as number)
  const newAt = panelColumns * panelsOf(past)
  return {
    heads,
    batch,
    queries,
    headDim: width / heads,
    past,
    pastBatch,
    keys,
    newAt,
    width: newAt + panelColumns * panelsOf(keys),
  }
}

/** softmax(query · keysᵀ) · values, for each row and head (Vaswani et al. 2017, equation 1). */
function forward(l: Lowering, inputs: Inputs, heads: number, out: Value): void {
  const x = extentsOf(l, inputs, heads)
  const weights = weightsOf(l, inputs, x)
  const to = byHead(l.output(out), x, x.queries)
  const pastValue = pastOperand(l, inputs.pastValue, x)
  overPast(l, x, { a: weights, inner: x.past, columns: x.headDim, b: pastValue, out: to })
  if (inputs.value === null || x.keys === 0) return
  emitGemm(l, {
    rows: x.queries,
    inner: x.keys,
    columns: x.headDim,
    a: newOf(weights, x),
    b: byHead(l.view(inputs.value), x, x.keys),
    out: to,
    added: x.past > 0 ? to : null,
    batches: [x.heads, x.batch],
  })
}

type Cotangents = { readonly [Name in 'query' | 'pastKey' | 'pastValue']: Value } & {
  readonly [Name in 'key' | 'value']: Value | null
}

function backward(l: Lowering, inputs: Inputs, heads: number, ct: Value, outputs: Cotangents): void {
  const x = extentsOf(l, inputs, heads)
  const { headDim, queries, past, keys } = x
  const batches = [x.heads, x.batch] as const
  const weights = weightsOf(l, inputs, x)
  const query = byHead(l.view(inputs.query), x, queries)
  const dOut = byHead(l.view(ct), x, queries)
  const pastKey = pastKeyOperand(l, inputs.pastKey, x)
  const pastValue = pastOperand(l, inputs.pastValue, x)

  // dWeights = dOut · valuesᵀ
  const dScores = scores(l, x)
  const transposed = { ...pastValue, transposed: true }
  overPast(l, x, { a: dOut, inner: headDim, columns: past, b: transposed, out: dScores, wholePanels: true })
  if (inputs.value !== null && keys > 0) {
    const b = { ...byHead(l.view(inputs.value), x, keys), transposed: true }
    const out = newOf(dScores, x)
    emitGemm(l, { rows: queries, inner: headDim, columns: keys, a: dOut, b, out, wholePanels: true, batches })
  }
  emitSoftmaxGrad(l, x, weights, dScores)

  // dQuery = dScores · keys
  const dQuery = byHead(l.output(outputs.query), x, queries)
  const keysByPosition = { ...pastKey, transposed: pastKey.transposed !== true }
  overPast(l, x, { a: dScores, inner: past, columns: headDim, b: keysByPosition, out: dQuery })
  if (inputs.key !== null && keys > 0) {
    emitGemm(l, {
      rows: queries,
      inner: keys,
      columns: headDim,
      a: newOf(dScores, x),
      b: byHead(l.view(inputs.key), x, keys),
      out: dQuery,
      added: past > 0 ? dQuery : null,
      batches,
    })
  }
  // dKeys = dScoresᵀ · query, and dValues = weightsᵀ · dOut.
  for (const [to, of, by] of [
    [outputs.key, dScores, query],
    [outputs.value, weights, dOut],
  ] as const) {
    if (to === null) continue
    const out = byHead(l.output(to), x, keys)
    const a = { ...newOf(of, x), byColumn: true }
    emitGemm(l, { rows: keys, inner: queries, columns: headDim, a, b: by, out, batches })
  }
  const dPastValue = pastGradient(l, outputs.pastValue, x, headDim)
  const ofPast =
    x.pastBatch === 1 ? { inner: x.batch * queries, batches: [x.heads, 1] as const } : { inner: queries, batches }
  const turned = turnOf(l, outputs.pastKey)
  if (turned === null) {
    const out = pastGradient(l, outputs.pastKey, x, past)
    emitGemm(l, { ...ofPast, rows: headDim, columns: past, a: { ...query, byColumn: true }, b: dScores, out })
  } else {
    const out = pastGradient(l, turned, x, headDim)
    emitGemm(l, { ...ofPast, rows: past, columns: headDim, a: { ...dScores, byColumn: true }, b: query, out })
  }
  emitGemm(l, { ...ofPast, rows: past, columns: headDim, a: { ...weights, byColumn: true }, b: dOut, out: dPastValue })
}

/** Softmax of all scores. */
function weightsOf(l: Lowering, inputs: Inputs, x: Extents): Operand {
  const made = scores(l, x)
  const query = byHead(l.view(inputs.query), x, x.queries)
  const pastKey = pastKeyOperand(l, inputs.pastKey, x)
  overPast(l, x, { a: query, inner: x.headDim, columns: x.past, b: pastKey, out: made, wholePanels: true })
  if (inputs.key !== null) {
    emitGemm(l, {
      rows: x.queries,
      inner: x.headDim,
      columns: x.keys,
      a: query,
      b: { ...byHead(l.view(inputs.key), x, x.keys), transposed: true },
      out: newOf(made, x),
      wholePanels: true,
      batches: [x.heads, x.batch],
    })
  }
  emitSoftmax(l, inputs, x, made)
  return made
}

/** A product with keys or values of the past, which all rows may share. */
function overPast(
  l: Lowering,
  x: Extents,
  product: Omit<Parameters<typeof emitGemm>[1], 'rows' | 'batches' | 'added' | 'bias'>,
): void {
  if (x.past === 0) return
  const shared = x.pastBatch === 1
  emitGemm(l, {
    ...product,
    rows: shared ? x.batch * x.queries : x.queries,
    batches: [x.heads, shared ? 1 : x.batch],
  })
}

/** Rows of a projection, [batch, count, heads · headDim], by head and row of the batch. */
const byHead = (view: View, { headDim }: Extents, count: number): Operand => ({
  view,
  outer: headDim,
  inner: count * view.stride,
})

function scores(l: Lowering, { heads, batch, queries, width }: Extents): Operand {
  const storage = l.temporary(4 * heads * batch * queries * width)
  return {
    view: { storage, offset: 0, stride: width },
    outer: batch * queries * width,
    inner: queries * width,
  }
}

const newOf = ({ view, ...batches }: Operand, { newAt }: Extents): Operand => ({
  ...batches,
  view: { ...view, offset: view.offset + newAt },
})

/** [batch or 1, heads, past, headDim] */
function pastOperand(l: Lowering, value: Value, { heads, past, headDim, pastBatch }: Extents): Operand {
  const view = l.contiguous(value)
  return { view, outer: past * headDim, inner: pastBatch === 1 ? 0 : heads * past * headDim }
}

/** [batch or 1, heads, headDim, past], or behind a transpose that nobody has made. */
function pastKeyOperand(l: Lowering, value: Value, x: Extents): Operand & { readonly transposed?: boolean } {
  const { node } = value
  if (!l.isKnown(value) && node.op === 'transpose') {
    assert.equal(node.attributes.permutation.join(), '0,1,3,2', 'past keys lie by position')
    return { ...pastOperand(l, node.inputs[0], x), transposed: true }
  }
  return pastOperand(l, value, x)
}

/** Where the gradient of past keys is wanted by position alone: the transpose that nobody needs to make then. */
function turnOf(l: Lowering, pastKey: Value): Value | null {
  const user = l.onlyUserOf(pastKey)
  return user?.op === 'transpose' && isTurn(user) ? (user.outputs[0] as Value) : null
}

/** Between keys by number and keys by position. */
export const isTurn = ({ attributes: { permutation } }: Node<'transpose'>): boolean => permutation.join() === '0,1,3,2'

function pastGradient(
  l: Lowering,
  value: Value,
  { heads, past, headDim, pastBatch }: Extents,
  stride: number,
): Operand {
  const view = { ...l.output(value), stride }
  return { view, outer: past * headDim, inner: pastBatch === 1 ? 0 : heads * past * headDim }
}

function emitSoftmax(l: Lowering, inputs: Inputs, x: Extents, made: Operand): void {
  const lengths = l.shapeOf(inputs.pastLengths)
  const [rows, each] = [lengths[0] as number, lengths[1] ?? 1]
  l.step('softmaxRows', l.chunksOf(x.heads * x.batch * x.queries), {
    ...l.rowsAt(x.heads * x.batch * x.queries, x.width, made.view, made.view),
    scale: { float: 1 / Math.sqrt(x.headDim) },
    past: x.newAt,
    queries: x.queries,
    rowsOfHead: x.batch * x.queries,
    pastLengths: { place: l.view(inputs.pastLengths) },
    pastLengthBatchStep: rows === 1 ? 0 : 4 * each,
    pastLengthQueryStep: lengths.length === 1 ? 0 : 4,
    keyLengths: inputs.keyLengths && { place: l.view(inputs.keyLengths) },
    keyLengthStep: inputs.keyLengths === null || l.sizeOf(inputs.keyLengths) === 1 ? 0 : 4,
    keys: x.keys,
  })
}

/** In place: what was the gradient of the weights becomes that of scores. */
function emitSoftmaxGrad(l: Lowering, x: Extents, weights: Operand, gradient: Operand): void {
  l.step('softmaxGradRows', l.chunksOf(x.heads * x.batch * x.queries), {
    ...l.rowsAt(x.heads * x.batch * x.queries, x.width, weights.view, gradient.view),
    with: { place: gradient.view },
    withStride: 4 * x.width,
    scale: { float: 1 / Math.sqrt(x.headDim) },
  })
}

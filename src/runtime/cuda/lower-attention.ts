// Attention and its gradient as kernels: queries, keys and values stay where they are, rows of one projection.
import assert from 'node:assert/strict'
import type { Node, Ops, Value } from '../../graph/ops.ts'
import { sumViews } from './lower-shapes.ts'
import { at, type Lowering } from './lowering.ts'
import type { KernelArgument, Storage, View } from './steps.ts'

/** Keys, values and queries of a block must fit into 48 KiB of shared memory. */
const headDimMax = 128
const forwardThreads = 128
const decodeThreads = 256
/** Queries, or keys, of one block: PER_BLOCK of the kernels. */
const perBlock = (headDim: number): number => (headDim > 64 ? 8 : 16)

type Inputs = Ops['attention']['inputs']

interface Geometry {
  readonly batch: number
  readonly queries: number
  readonly heads: number
  readonly headDim: number
  readonly past: number
  readonly pastPerRow: boolean
  readonly strides: readonly [query: number, key: number, value: number]
  /** The inputs as kernels take them. */
  readonly arguments: readonly KernelArgument[]
}

function geometryOf(l: Lowering, inputs: Inputs, heads: number): Geometry {
  const [query, key, value, pastKey, pastValue, lengths] = inputs
  const [batch, queries, width] = l.shapeOf(query) as [number, number, number]
  const headDim = width / heads
  assert.ok(headDim <= headDimMax, `heads of ${headDim} numbers; the cuda runtime has them up to ${headDimMax}`)
  const views = [query, key, value].map((each) => l.view(each)) as [View, View, View]
  const [pastBatch, , , past] = l.shapeOf(pastKey) as [number, number, number, number]
  return {
    batch,
    queries,
    heads,
    headDim,
    past,
    pastPerRow: pastBatch > 1,
    strides: [views[0].stride, views[1].stride, views[2].stride],
    arguments: [...views, ...[pastKey, pastValue, lengths].map((each) => l.contiguous(each))].map(at),
  }
}

/** AttentionShape of the kernels. */
function shapeOf(l: Lowering, g: Geometry, lengths: Value, outStride: number): KernelArgument {
  const shape = l.shapeOf(lengths)
  const flags = [g.pastPerRow, (shape[0] as number) > 1, shape.length > 1].map(Number)
  const ints = Int32Array.of(g.queries, g.heads, g.past, ...flags, ...g.strides, outStride)
  const struct = new Uint8Array(ints.byteLength + 4)
  struct.set(new Uint8Array(ints.buffer))
  new DataView(struct.buffer).setFloat32(ints.byteLength, 1 / Math.sqrt(g.headDim), true)
  return { struct }
}

const bytesOf = ({ batch, queries, heads, headDim, past }: Geometry): number =>
  4 * batch * heads * headDim * (4 * queries + 2 * past)

function emitForward(l: Lowering, inputs: Inputs, g: Geometry, out: View, logSums: Storage | null): void {
  const shape = shapeOf(l, g, inputs[5], out.stride)
  const grid = (x: number): [number, number, number] => [x, g.heads, g.batch]
  if (g.queries === 1 && logSums === null) {
    const args = [...g.arguments, at(out), shape]
    l.blocks('attention_decode', grid(1), decodeThreads, args, bytesOf(g), g.headDim)
    return
  }
  const saved: KernelArgument = { place: logSums === null ? null : { storage: logSums, offset: 0 } }
  const blocks = Math.ceil(g.queries / perBlock(g.headDim))
  l.blocks('attention', grid(blocks), forwardThreads, [...g.arguments, at(out), saved, shape], bytesOf(g), g.headDim)
}

export function lowerAttention(l: Lowering, node: Node<'attention'>): void {
  const key = l.keys.of(node.inputs)
  const g = geometryOf(l, node.inputs, node.attributes.heads)
  const isDifferentiated = l.fusions.differentiated.has(key) && l.fusions.attentions.get(key) === node
  const logSums = isDifferentiated ? l.temporary(g.batch * g.heads * g.queries) : null
  if (logSums !== null) l.logSums.set(key, logSums)
  emitForward(l, node.inputs, g, l.output(node.outputs[0] as Value), logSums)
}

export function lowerAttentionGrad(l: Lowering, node: Node<'attentionGrad'>): void {
  const inputs = node.inputs.slice(0, 6) as unknown as Inputs
  const ct = node.inputs[6]
  const g = geometryOf(l, inputs, node.attributes.heads)
  const { out, logSums } = forwardOf(l, inputs, g)
  const means: KernelArgument = { place: { storage: l.temporary(g.batch * g.heads * g.queries), offset: 0 } }
  const sums: KernelArgument = { place: { storage: logSums, offset: 0 } }
  const shape = shapeOf(l, g, inputs[5], out.stride)
  const cotangent = l.view(ct)
  const given = [at(cotangent), { int: cotangent.stride }]
  const [dq, dk, dv] = [0, 1, 2].map((i) => wanted(l, node.outputs[i] as Value)) as [Asked, Asked, Asked]
  const size = perBlock(g.headDim)
  const tiles = Math.ceil(g.queries / size)
  const forQueries = [...g.arguments, at(out), sums, ...given, ...dq, means, shape]
  const bytes = bytesOf(g)
  l.blocks('attention_gradient_queries', [tiles, g.heads, g.batch], forwardThreads, forQueries, bytes, g.headDim)
  const past = pastGradients(l, node, g)
  const places = past.map(({ view }): KernelArgument => (view === null ? { place: null } : at(view)))
  const forKeys = [...g.arguments, sums, means, ...given, ...dk, ...dv, ...places, shape]
  const grid = [Math.ceil(g.past / size) + tiles, g.heads, g.batch] as const
  l.blocks('attention_gradient_keys', grid, forwardThreads, forKeys, bytes, g.headDim)
  for (const { finish } of past) finish()
}

type Asked = readonly [place: KernelArgument, stride: KernelArgument]

/** What nobody asks for is not computed. */
function wanted(l: Lowering, value: Value): Asked {
  if (!l.isWanted(value)) return [{ place: null }, { int: 0 }]
  const view = l.output(value)
  return [at(view), { int: view.stride }]
}

/** The forward pass that this is the gradient of; computed anew where the graph has none. */
function forwardOf(l: Lowering, inputs: Inputs, g: Geometry): { readonly out: View; readonly logSums: Storage } {
  const key = l.keys.of(inputs)
  const forward = l.fusions.attentions.get(key)?.outputs[0]
  const saved = l.logSums.get(key)
  if (forward !== undefined && saved !== undefined) return { out: l.view(forward), logSums: saved }
  const width = g.heads * g.headDim
  const out = { storage: l.temporary(g.batch * g.queries * width), offset: 0, stride: width }
  const logSums = l.temporary(g.batch * g.heads * g.queries)
  emitForward(l, inputs, g, out, logSums)
  return { out, logSums }
}

interface PastGradient {
  readonly view: View | null
  readonly finish: () => void
}

/** A past that serves all rows gets the sum of what each row gives it, always in the order of the rows. */
function pastGradients(l: Lowering, node: Node<'attentionGrad'>, g: Geometry): PastGradient[] {
  return [3, 4].map((i) => {
    const value = node.outputs[i] as Value
    if (!l.isWanted(value) || g.past === 0) return { view: null, finish: () => undefined }
    const out = l.output(value)
    if (g.pastPerRow || g.batch === 1) return { view: out, finish: () => undefined }
    const shape = l.shapeOf(value)
    const each = { storage: l.temporary(g.batch * l.sizeOf(value)), offset: 0, stride: shape[3] as number }
    const finish = (): void => sumViews(l, each, [g.batch, ...shape.slice(1)], each.stride, out, shape)
    return { view: each, finish }
  })
}

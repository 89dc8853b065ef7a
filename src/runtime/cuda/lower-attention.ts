// Attention and its gradient as kernels: queries, keys and values stay where they are, rows of one projection.
import assert from 'node:assert/strict'
import type { Node, Ops, Value } from '../../graph/ops.ts'
import { sumViews } from './lower-shapes.ts'
import { at, type Lowering } from './lowering.ts'
import type { Heads, KernelArgument, Storage, View } from './steps.ts'

/** Keys, values and queries of a block must fit into 48 KiB of shared memory. */
const headDimMax = 128
const forwardThreads = 128
const decodeThreads = 256
/** Queries, or keys, of one block: PER_BLOCK of the kernels in float32, BLOCK_ROWS of those in 16 bits. */
const perBlock = ({ form, headDim }: Heads): number => (form !== 'float32' ? 64 : headDim > 64 ? 8 : 16)
/** Cached positions of one block while decoding in 16 bits: one tile for each of its warps. */
const decodeShare = decodeThreads
/** Blocks beyond that keep a device busy as they are. */
const decodeBlocksMin = 128

/** The inputs of causal attention and of the other, under names. */
interface Inputs {
  readonly all: readonly Value[]
  readonly query: Value
  readonly key: Value | null
  readonly value: Value | null
  readonly pastKey: Value
  readonly pastValue: Value
  readonly pastLengths: Value
  /** null: a query sees the new keys up to its own. */
  readonly keyLengths: Value | null
}

function causal(all: Ops['attention']['inputs']): Inputs {
  const [query, key, value, pastKey, pastValue, pastLengths] = all
  return { all, query, key, value, pastKey, pastValue, pastLengths, keyLengths: null }
}

function unordered(all: Ops['crossAttention']['inputs']): Inputs {
  const [query, pastKey, pastValue, pastLengths, key = null, value = null, keyLengths = null] = all
  return { all, query, key, value, pastKey, pastValue, pastLengths, keyLengths }
}

interface Geometry {
  readonly batch: number
  readonly queries: number
  /** New ones. */
  readonly keys: number
  readonly heads: number
  readonly headDim: number
  /** Of the kernels: the program's. */
  readonly kernels: Heads
  readonly past: number
  readonly pastPerRow: boolean
  readonly pastIsHalf: boolean
  readonly strides: readonly [query: number, key: number, value: number]
  /** The inputs as kernels take them. */
  readonly arguments: readonly KernelArgument[]
}

function geometryOf(l: Lowering, inputs: Inputs, heads: number): Geometry {
  const { query, key, value, pastKey, pastValue, pastLengths, keyLengths } = inputs
  const [batch, queries, width] = l.shapeOf(query) as [number, number, number]
  const headDim = width / heads
  assert.ok(headDim <= headDimMax, `heads of ${headDim} numbers; the cuda runtime has them up to ${headDimMax}`)
  const views = [query, key, value].map((each) => each && l.view(each)) as [View, View | null, View | null]
  const [pastBatch, , , past] = l.shapeOf(pastKey) as [number, number, number, number]
  const lengths = [pastLengths, keyLengths].map((each) => each && l.contiguous(each))
  const places = [...views, l.past(pastKey), l.past(pastValue), ...lengths]
  return {
    batch,
    queries,
    keys: key === null ? 0 : (l.shapeOf(key)[1] as number),
    heads,
    headDim,
    kernels: { headDim, form: l.form },
    past,
    pastPerRow: pastBatch > 1,
    pastIsHalf: l.isHalf(pastKey),
    strides: [views[0].stride, views[1]?.stride ?? 0, views[2]?.stride ?? 0],
    arguments: places.map((place) => (place === null ? { place } : at(place))),
  }
}

/** AttentionShape of the kernels. */
function shapeOf(l: Lowering, g: Geometry, lengths: Value, outStride: number): KernelArgument {
  const shape = l.shapeOf(lengths)
  const flags = [g.pastPerRow, (shape[0] as number) > 1, shape.length > 1].map(Number)
  const ints = Int32Array.of(
    g.queries,
    g.keys,
    g.heads,
    g.past,
    ...flags,
    ...g.strides,
    outStride,
    Number(g.pastIsHalf),
  )
  const floats = Float32Array.of(1 / Math.sqrt(g.headDim), l.gradientScale)
  const struct = new Uint8Array(ints.byteLength + floats.byteLength)
  struct.set(new Uint8Array(ints.buffer))
  struct.set(new Uint8Array(floats.buffer), ints.byteLength)
  return { struct }
}

const bytesOf = ({ batch, queries, keys, heads, headDim, past, pastIsHalf }: Geometry): number =>
  batch * heads * headDim * (8 * queries + 8 * keys + (pastIsHalf ? 4 : 8) * past)

function emitForward(l: Lowering, inputs: Inputs, g: Geometry, out: View, logSums: Storage | null): void {
  const isDecoding = g.queries === 1 && logSums === null && inputs.keyLengths === null
  if (isDecoding) return emitDecode(l, inputs, g, out)
  const saved: KernelArgument = { place: logSums === null ? null : { storage: logSums, offset: 0 } }
  const grid = [Math.ceil(g.queries / perBlock(g.kernels)), g.heads, g.batch] as const
  const args = [...g.arguments, at(out), saved, shapeOf(l, g, inputs.pastLengths, out.stride)]
  l.blocks(kernelOf(g, ''), grid, forwardThreads, args, bytesOf(g), g.kernels)
}

/** The kernel's name in the form of the program. */
const kernelOf = ({ kernels }: Geometry, rest: string): string =>
  `attention${kernels.form === 'float32' ? '' : '_half'}${rest}`

/** One query a row. Where rows are few, several blocks share a long past, but in float32 a row's bits depend on no others beside it. */
function emitDecode(l: Lowering, inputs: Inputs, g: Geometry, out: View): void {
  const { batch, heads, headDim } = g
  // The past says in which form, whatever the program's is.
  const kernels: Heads = g.pastIsHalf ? g.kernels : { ...g.kernels, form: 'float32' }
  const isSplit = g.pastIsHalf && g.past > decodeShare && batch * heads < decodeBlocksMin
  const share = isSplit ? decodeShare : g.past
  const count = isSplit ? Math.ceil(g.past / share) : 1
  const shape = shapeOf(l, g, inputs.pastLengths, out.stride)
  const parts = isSplit ? { storage: l.temporary(batch * heads * count * (headDim + 2)), offset: 0 } : null
  const args = [...g.arguments.slice(0, -1), at(out), { place: parts }, { int: share }, shape]
  l.blocks('attention_decode', [count, heads, batch], decodeThreads, args, bytesOf(g), kernels)
  if (parts === null) return
  const joined = [at(parts), at(out), { int: count }, shape]
  l.blocks('attention_decode_join', [1, heads, batch], forwardThreads, joined, parts.storage.bytes, kernels)
}

export function lowerAttention(l: Lowering, node: Node<'attention'>): void {
  lowerForward(l, node, causal(node.inputs))
}

export function lowerCrossAttention(l: Lowering, node: Node<'crossAttention'>): void {
  lowerForward(l, node, unordered(node.inputs))
}

function lowerForward(l: Lowering, node: Node<'attention'> | Node<'crossAttention'>, inputs: Inputs): void {
  const key = l.keys.of(inputs.all)
  const g = geometryOf(l, inputs, node.attributes.heads)
  const isDifferentiated = l.fusions.differentiated.has(key) && l.fusions.attentions.get(key) === node
  const logSums = isDifferentiated ? l.temporary(g.batch * g.heads * g.queries) : null
  if (logSums !== null) l.logSums.set(key, logSums)
  emitForward(l, inputs, g, l.output(node.outputs[0] as Value), logSums)
}

/** The outputs of a gradient, under the names of what they are cotangents of. */
type Outputs = Readonly<Record<'query' | 'pastKey' | 'pastValue', Value>> &
  Readonly<Record<'key' | 'value', Value | null>>

export function lowerAttentionGrad(l: Lowering, node: Node<'attentionGrad'>): void {
  const [query, key, value, pastKey, pastValue] = node.outputs as readonly [Value, Value, Value, Value, Value]
  const inputs = causal(node.inputs.slice(0, -1) as unknown as Ops['attention']['inputs'])
  lowerBackward(l, node, inputs, { query, key, value, pastKey, pastValue })
}

export function lowerCrossAttentionGrad(l: Lowering, node: Node<'crossAttentionGrad'>): void {
  const [query, pastKey, pastValue, key = null, value = null] = node.outputs as readonly [Value, Value, Value]
  const inputs = unordered(node.inputs.slice(0, -1) as unknown as Ops['crossAttention']['inputs'])
  lowerBackward(l, node, inputs, { query, key, value, pastKey, pastValue })
}

function lowerBackward(
  l: Lowering,
  node: Node<'attentionGrad'> | Node<'crossAttentionGrad'>,
  inputs: Inputs,
  outputs: Outputs,
): void {
  const g = geometryOf(l, inputs, node.attributes.heads)
  const { out, logSums } = forwardOf(l, inputs, g)
  const means: KernelArgument = { place: { storage: l.temporary(g.batch * g.heads * g.queries), offset: 0 } }
  const sums: KernelArgument = { place: { storage: logSums, offset: 0 } }
  const shape = shapeOf(l, g, inputs.pastLengths, out.stride)
  const cotangent = l.view(node.inputs.at(-1) as Value)
  const given = [at(cotangent), { int: cotangent.stride }]
  const [dq, dk, dv] = [outputs.query, outputs.key, outputs.value].map((each) => wanted(l, each)) as [
    Asked,
    Asked,
    Asked,
  ]
  const size = perBlock(g.kernels)
  const tiles = (positions: number): number => Math.ceil(positions / size)
  const forQueries = [...g.arguments, at(out), sums, ...given, ...dq, means, shape]
  const bytes = bytesOf(g)
  const queryGrid = [tiles(g.queries), g.heads, g.batch] as const
  l.blocks(kernelOf(g, '_gradient_queries'), queryGrid, forwardThreads, forQueries, bytes, g.kernels)
  const past = [outputs.pastKey, outputs.pastValue].map((each) => pastGradient(l, each, g))
  const places = past.map(({ view }): KernelArgument => (view === null ? { place: null } : at(view)))
  const forKeys = [...g.arguments, sums, means, ...given, ...dk, ...dv, ...places, shape]
  const grid = [tiles(g.past) + tiles(g.keys), g.heads, g.batch] as const
  l.blocks(kernelOf(g, '_gradient_keys'), grid, forwardThreads, forKeys, bytes, g.kernels)
  for (const { finish } of past) finish()
}

type Asked = readonly [place: KernelArgument, stride: KernelArgument]

/** What nobody asks for is not computed. */
function wanted(l: Lowering, value: Value | null): Asked {
  if (value === null || !l.isWanted(value)) return [{ place: null }, { int: 0 }]
  const view = l.output(value)
  return [at(view), { int: view.stride }]
}

/** The forward pass that this is the gradient of; computed anew where the graph has none. */
function forwardOf(l: Lowering, inputs: Inputs, g: Geometry): { readonly out: View; readonly logSums: Storage } {
  const key = l.keys.of(inputs.all)
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
function pastGradient(l: Lowering, value: Value, g: Geometry): PastGradient {
  if (!l.isWanted(value) || g.past === 0) return { view: null, finish: () => undefined }
  const out = l.output(value)
  if (g.pastPerRow || g.batch === 1) return { view: out, finish: () => undefined }
  const shape = l.shapeOf(value)
  const each = { storage: l.temporary(g.batch * l.sizeOf(value)), offset: 0, stride: shape[3] as number }
  const finish = (): void => sumViews(l, each, [g.batch, ...shape.slice(1)], each.stride, out, shape)
  return { view: each, finish }
}

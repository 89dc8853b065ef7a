// A graph as kernels: one rule for each operation that serving in words, or training in float32, needs.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import { lowerAttention, lowerCrossAttention } from './lower-attention.ts'
import { lowerGeluGrad, lowerLayerNormGrad, lowerScatterAdd } from './lower-gradients.ts'
import { lowerCrossEntropy, lowerCrossEntropyGrad } from './lower-cross-entropy.ts'
import { emitGemm, matrixOf, panelsOf } from './lower-gemm.ts'
import { lowerConcat, lowerJoinRows, lowerReshape, lowerSplit, lowerSplitRows, lowerTranspose } from './lower-shapes.ts'
import {
  lowerAttentionGrad,
  lowerCrossAttentionGrad,
  lowerTrainedAttention,
  lowerTrainedCrossAttention,
} from './lower-trained-attention.ts'
import { chunkRows } from './kernels/product.ts'
import { Lowering, type LoweringOptions } from './lowering.ts'
import { Storage, type View } from './steps.ts'
import { frozenName, type LoadedWeights } from './weights.ts'

const outputOf = (node: AnyNode): Value => node.outputs[0] as Value

/** Panels of a chunk at the most: with its rows they stay in a core's own caches. */
const chunkPanelsMax = 12
const chunksPerThread = 16

type Rules = { readonly [Op in OpName]?: (l: Lowering, node: Node<Op>) => void }

const rules: Rules = {
  weight: () => undefined,
  constant: () => undefined,
  gather: (l, node) => {
    const [x, numbers] = node.inputs
    const out = outputOf(node)
    // Rows of the result are as many as numbers, in one axis or several.
    const slots = l.rowSlots(out, l.view(x), l.output(out))
    l.step('gather', l.chunksOf(l.rowsOf(out)), { ...slots, numbers: { place: l.view(numbers) } })
  },
  layerNorm: (l, node) => {
    const [x, scale, shift] = node.inputs
    const slots = l.rowSlots(x, l.view(x), l.output(outputOf(node)))
    l.step('layerNorm', l.chunksOf(l.rowsOf(x)), {
      ...slots,
      scale: { place: l.view(scale) },
      shift: { place: l.view(shift) },
      epsilon: { float: node.attributes.epsilon },
      ofWidth: { float: 1 / l.widthOf(x) },
    })
  },
  linear: (l, node) => {
    if (addingNode(l, node) === null) emitProduct(l, node, l.output(outputOf(node)), null)
  },
  add: (l, node) => {
    const [x, y] = node.inputs
    const out = outputOf(node)
    // A product adds what comes to it on its way out.
    for (const [product, added] of [
      [y, x],
      [x, y],
    ] as const) {
      if (product.node.op === 'linear' && addingNode(l, product.node) === node && !l.isKnown(product))
        return emitProduct(l, product.node, l.output(out), l.view(added))
    }
    assert.ok(l.sizeOf(x) === l.sizeOf(y), `[${x.shape}] and [${y.shape}] are added`)
    const to = l.output(out)
    l.elementwise('add', out, l.apart(x, to.stride), to, { place: l.apart(y, to.stride) })
  },
  mul: (l, node) => {
    const out = outputOf(node)
    const [x, y] = node.inputs
    const [value, factor] = y.node.op === 'constant' ? [x, y.node] : [y, x.node]
    assert.ok(factor.op === 'constant', 'one factor is a constant')
    assert.ok(l.sizeOf(value) === l.sizeOf(out), `[${value.shape}] becomes [${out.shape}] by a factor`)
    const to = l.output(out)
    l.elementwise('scale', out, l.apart(value, to.stride), to, { float: factor.attributes.fill })
  },
  gelu: (l, node) => lowerGelu(l, node, 'gelu'),
  exactGelu: (l, node) => lowerGelu(l, node, 'exactGelu'),
  geluGrad: lowerGeluGrad,
  exactGeluGrad: lowerGeluGrad,
  layerNormGrad: lowerLayerNormGrad,
  scatterAdd: lowerScatterAdd,
  reshape: lowerReshape,
  transpose: lowerTranspose,
  split: lowerSplit,
  concat: lowerConcat,
  joinRows: lowerJoinRows,
  splitRows: lowerSplitRows,
  attention: (l, node) => (l.form === 'words' ? lowerAttention(l, node) : lowerTrainedAttention(l, node)),
  attentionGrad: lowerAttentionGrad,
  crossAttention: (l, node) =>
    l.form === 'words' ? lowerCrossAttention(l, node) : lowerTrainedCrossAttention(l, node),
  crossAttentionGrad: lowerCrossAttentionGrad,
  crossEntropy: lowerCrossEntropy,
  crossEntropyGrad: lowerCrossEntropyGrad,
}

function lowerGelu(l: Lowering, node: AnyNode, kernel: 'gelu' | 'exactGelu'): void {
  const out = outputOf(node)
  const to = l.output(out)
  l.elementwise(kernel, out, l.apart(node.inputs[0] as Value, to.stride), to)
}

/** The addition that alone wants what a product makes, of two values of one shape. */
function addingNode(l: Lowering, product: Node<'linear'>): AnyNode | null {
  const out = outputOf(product)
  const user = l.onlyUserOf(out)
  if (user?.op !== 'add') return null
  const [x, y] = user.inputs
  const other = out === x ? y : x
  // Of two products that are added, the first must be there for the second; and what is fed ends where its numbers end.
  if ((out === x && y.node.op === 'linear') || other.node.op === 'input') return null
  return l.sizeOf(x) === l.sizeOf(y) && l.widthOf(x) === l.widthOf(y) ? user : null
}

/** x · w + b + added, to `out`. */
function emitProduct(l: Lowering, node: Node<'linear'>, out: View, added: View | null): void {
  if (l.form === 'words') emitWords(l, node, out, added)
  else emitFloats(l, node, out, added)
}

function emitFloats(l: Lowering, node: Node<'linear'>, out: View, added: View | null): void {
  const [x, w, b] = node.inputs
  const columns = l.widthOf(outputOf(node))
  emitGemm(l, {
    rows: l.rowsOf(x),
    inner: l.widthOf(x),
    columns,
    a: { view: l.view(x) },
    b: matrixOf(l, w, node.attributes.transposed),
    bias: b === undefined ? null : l.weights.bias(frozenName(b), panelsOf(columns)),
    added: added && { view: added },
    out: { view: out },
  })
}

function emitWords(l: Lowering, node: Node<'linear'>, out: View, added: View | null): void {
  const [x, w, b] = node.inputs
  assert.ok(w.node.op === 'weight')
  const count = l.rowsOf(x)
  if (count === 0) return
  const matrix = l.weights.matrix(w.node.attributes.name, node.attributes.transposed)
  const { rows, scales } = l.words(x)
  const rowChunks = Math.ceil(count / chunkRows)
  const wanted = Math.floor((matrix.panels * rowChunks) / (chunksPerThread * l.threads))
  const chunkPanels = Math.max(1, Math.min(chunkPanelsMax, wanted))
  const resident = (address: number) => ({ place: { storage: new Storage(0, 'resident', { address }), offset: 0 } })
  l.step('product', Math.ceil(matrix.panels / chunkPanels) * rowChunks, {
    rows: { place: { storage: rows, offset: 0 } },
    rowScales: { place: { storage: scales, offset: 0 } },
    count,
    rowStride: 2 * matrix.padded,
    weights: resident(matrix.valuesAt),
    panelBytes: matrix.panelBytes,
    weightScales: resident(matrix.scalesAt),
    blocks: matrix.blocks,
    lastPairs: matrix.lastPairs,
    panels: matrix.panels,
    chunkPanels,
    rowChunks,
    bias: resident(l.weights.bias(b === undefined ? null : frozenName(b), matrix.panels)),
    out: { place: out },
    outStride: 4 * out.stride,
    added: added && { place: added },
    addedStride: 4 * (added?.stride ?? 0),
    mask: resident(l.weights.mask(matrix.columns)),
    isMasked: matrix.columns % 16 === 0 ? 0 : 1,
  })
}

export interface Lowered {
  readonly lowering: Lowering
  /** Inputs that are copied in, by name; those that lie where the caller has them are not here. */
  readonly inputs: ReadonlyMap<string, Storage>
}

/** The steps of one run, with all dimensions bound. */
export function lower(
  graph: Graph,
  bindings: ReadonlyMap<string, number>,
  weights: LoadedWeights,
  options: LoweringOptions,
): Lowered {
  const l = new Lowering(graph, bindings, weights, options)
  const inputs = new Map<string, Storage>()
  for (const node of graph.nodes) {
    if (node.op !== 'input') continue
    const { name, dtype } = node.attributes
    const value = outputOf(node)
    const kind = dtype === 'int32' ? 'input' : 'fed'
    const storage = new Storage(Math.max(4, 4 * l.sizeOf(value)), kind, { name })
    if (kind === 'input') inputs.set(name, storage)
    l.set(value, { storage, offset: 0, stride: l.widthOf(value) })
  }
  for (const node of graph.nodes) {
    const rule = rules[node.op] as ((l: Lowering, node: AnyNode) => void) | undefined
    if (node.op !== 'input') rule?.(l, node)
  }
  for (const [name, value] of Object.entries(graph.outputs)) {
    const [from, storage, width] = [l.view(value), l.outputs.get(name) as Storage, l.widthOf(value)]
    if (from.storage !== storage) l.copyRows(l.rowsOf(value), width, from, { storage, offset: 0, stride: width })
  }
  return { lowering: l, inputs }
}

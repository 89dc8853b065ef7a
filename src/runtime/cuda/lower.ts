// Lowers a graph to steps on the device: one row for each op.
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import { lowerAttention, lowerAttentionGrad, lowerCrossAttention, lowerCrossAttentionGrad } from './lower-attention.ts'
import {
  emitLinear,
  lowerCrossEntropy,
  lowerCrossEntropyGrad,
  lowerGelu,
  lowerLinear,
  lowerOuter,
} from './lower-linear.ts'
import {
  lowerBinary,
  lowerBroadcastTo,
  lowerConcat,
  lowerJoinRows,
  lowerReshape,
  lowerSplit,
  lowerSplitRows,
  lowerSumTo,
  lowerTranspose,
} from './lower-shapes.ts'
import { at, Lowering, type ResidentWeights } from './lowering.ts'
import { reserveParts } from './placement.ts'
import { Storage, type Form, type View } from './steps.ts'

type Rule<Op extends OpName> = (l: Lowering, node: Node<Op>) => void

const outputOf = (node: { readonly outputs: readonly Value[] }): Value => node.outputs[0] as Value
/** Rows of a warp each, four in a block. */
const rowsPerBlock = 4

const rules: { readonly [Op in OpName]: Rule<Op> } = {
  // Made before all others, so that they lie in the order of the graph.
  input: () => undefined,
  // Brought to the device in the form in which it is asked for.
  weight: () => undefined,
  constant: (l, node) => l.setUniform(outputOf(node), node.attributes.fill),

  add: (l, node) => {
    const own = l.fusions.computedBy.get(node)
    if (own === undefined) return lowerBinary(l, node)
    const other = node.inputs[0] === own ? node.inputs[1] : node.inputs[0]
    if (own.node.op === 'linear') {
      const added = l.view(other)
      return emitLinear(l, own.node, l.output(outputOf(node)), { added })
    }
    emitLayerNormGrad(l, own.node as Node<'layerNormGrad'>, outputOf(node), other)
  },
  mul: lowerBinary,
  tanh: (l, node) => {
    const count = l.sizeOf(node.inputs[0])
    const from = l.contiguous(node.inputs[0])
    l.kernel('tanh_of', count, [at(from), at(l.output(outputOf(node))), { int: count }], 8 * count)
  },

  linear: lowerLinear,
  outer: lowerOuter,

  reshape: lowerReshape,
  transpose: lowerTranspose,
  split: lowerSplit,
  concat: lowerConcat,
  sumTo: lowerSumTo,
  broadcastTo: lowerBroadcastTo,
  joinRows: lowerJoinRows,
  splitRows: lowerSplitRows,

  gather: (l, node) => {
    const [x, indices] = node.inputs
    const [count, width] = [l.sizeOf(indices), l.widthOf(x)]
    const isRounded = x.node.op === 'weight' && l.form !== 'float32'
    const from = x.node.op === 'weight' && isRounded ? { ...l.frozen(x.node, l.form), stride: width } : l.view(x)
    const args = [
      at(from),
      at(l.contiguous(indices)),
      at(l.output(outputOf(node))),
      { int: width },
      { int: from.stride },
    ]
    l.blocks(isRounded ? `gather_${l.form}` : 'gather', [count, 1, 1], 128, args, 8 * count * width)
  },
  scatterAdd: (l, node) => {
    const [rows, indices] = node.inputs
    const out = outputOf(node)
    const [count, width] = [l.sizeOf(indices), l.widthOf(out)]
    const from = [at(l.contiguous(rows)), at(l.contiguous(indices))]
    const args = [...from, at(l.output(out)), { int: count }, { int: width }]
    l.blocks('scatter_add', [l.rowsOf(out), 1, 1], 128, args, 4 * (l.sizeOf(rows) + l.sizeOf(out)))
  },

  layerNorm: (l, node) => {
    const [x, scale, shift] = node.inputs
    const [rows, width, from] = [l.rowsOf(x), l.widthOf(x), l.view(x)]
    const given = [at(from), at(l.contiguous(scale)), at(l.contiguous(shift)), at(l.output(outputOf(node)))]
    const sizes = [{ int: rows }, { int: width }, { int: from.stride }, { float: node.attributes.epsilon }]
    l.blocks('layer_norm', [Math.ceil(rows / rowsPerBlock), 1, 1], 128, [...given, ...sizes], 8 * rows * width)
  },
  layerNormGrad: (l, node) => {
    if (!l.fusions.deferred.has(node)) emitLayerNormGrad(l, node, outputOf(node), null)
  },
  gelu: lowerGelu,
  geluGrad: (l, node) => {
    const [x, ct] = node.inputs
    const count = l.sizeOf(x)
    const args = [at(l.contiguous(x)), at(l.contiguous(ct)), at(l.output(outputOf(node))), { int: count }]
    l.kernel('gelu_gradient', count, args, 12 * count, 4)
  },

  exactGelu: (l, node) => {
    const count = l.sizeOf(node.inputs[0])
    const from = l.contiguous(node.inputs[0])
    l.kernel('exact_gelu', count, [at(from), at(l.output(outputOf(node))), { int: count }], 8 * count)
  },
  exactGeluGrad: (l, node) => {
    const [x, ct] = node.inputs
    const count = l.sizeOf(x)
    const args = [at(l.contiguous(x)), at(l.contiguous(ct)), at(l.output(outputOf(node))), { int: count }]
    l.kernel('exact_gelu_gradient', count, args, 12 * count)
  },

  attention: lowerAttention,
  attentionGrad: lowerAttentionGrad,
  crossAttention: lowerCrossAttention,
  crossAttentionGrad: lowerCrossAttentionGrad,
  crossEntropy: lowerCrossEntropy,
  crossEntropyGrad: lowerCrossEntropyGrad,
}

function emitLayerNormGrad(l: Lowering, node: Node<'layerNormGrad'>, out: Value, base: Value | null): void {
  const [x, scale, , ct] = node.inputs
  const [rows, width] = [l.rowsOf(x), l.widthOf(x)]
  const given = [x, scale, ct].map((each) => at(l.contiguous(each)))
  const added = base === null ? { place: null } : at(l.contiguous(base))
  const sizes = [{ int: rows }, { int: width }, { float: node.attributes.epsilon }]
  const args = [...given, added, at(l.output(out)), ...sizes]
  l.blocks('layer_norm_gradient', [Math.ceil(rows / rowsPerBlock), 1, 1], 128, args, 16 * rows * width)
}

export interface LowerOptions {
  readonly form: Form
  readonly bindings: ReadonlyMap<string, number>
  readonly weights: ResidentWeights
  /** Inputs that lie somewhere on the device already, by name. */
  readonly resident?: ReadonlyMap<string, bigint>
  /** In which form those are: float32 unless said. */
  readonly residentForm?: Form
  /** Outputs that stay on the device, by name, and where they go. */
  readonly kept?: ReadonlyMap<string, Storage>
}

/** The steps of one run, with all dimensions bound. `finish` may add some after those of the graph. */
export function lower(graph: Graph, options: LowerOptions, finish?: (l: Lowering) => void): Lowering {
  const l = new Lowering(graph, options.form, options.bindings, options.weights)
  for (const node of graph.nodes) {
    if (node.op !== 'input') continue
    const value = outputOf(node)
    const address = options.resident?.get(node.attributes.name)
    const bytes = Math.max(4, 4 * l.sizeOf(value))
    const storage = new Storage(bytes, address === undefined ? 'input' : 'resident', address ?? null)
    if (address === undefined) l.inputs.set(node.attributes.name, storage)
    if (address !== undefined && (options.residentForm ?? 'float32') !== 'float32') l.setHalf(value, storage)
    else l.set(value, { storage, offset: 0, stride: l.widthOf(value) })
  }
  for (const [name, value] of Object.entries(graph.outputs)) {
    const kept = options.kept?.get(name)
    if (kept === undefined) l.outputs.set(name, new Storage(Math.max(4, 4 * l.sizeOf(value)), 'output'))
    else l.kept.set(name, kept)
  }
  reserveParts(l)
  for (const node of graph.nodes) applyRule(l, node)
  for (const [name, value] of Object.entries(graph.outputs)) deliver(l, value, l.goalOf(name))
  finish?.(l)
  return l
}

function applyRule(l: Lowering, node: AnyNode): void {
  const apply = <Op extends OpName>(node: Node<Op>): void => rules[node.op](l, node)
  apply(node as Node)
}

/** Copies a value to where it is wanted, unless it was written there. */
function deliver(l: Lowering, value: Value, storage: Storage): void {
  const width = l.widthOf(value)
  const from = l.view(value)
  const to: View = { storage, offset: 0, stride: width }
  if (from.storage !== storage) l.copy([l.rowsOf(value), width], from, [from.stride, 1], to, [width, 1])
}

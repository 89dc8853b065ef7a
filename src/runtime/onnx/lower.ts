// The ONNX form of each op. One node of ours becomes one or more of theirs.
import type { Graph } from '../../graph/graph.ts'
import type { Node, OpName, Value } from '../../graph/ops.ts'
import type { Weights } from '../../tensor/weights.ts'
import { Emitter, type EmitterOptions } from './emitter.ts'
import { lowerAttention } from './lower-attention.ts'
import { lowerAttentionGrad, lowerTrainedAttention } from './lower-attention-grad.ts'
import { lowerCrossAttention, lowerCrossAttentionGrad } from './lower-cross-attention.ts'
import { lowerCrossEntropy, lowerCrossEntropyGrad } from './lower-cross-entropy.ts'
import { lowerExactGelu, lowerExactGeluGrad, lowerGelu, lowerGeluGrad } from './lower-gelu.ts'
import { lowerLayerNorm, lowerLayerNormGrad } from './lower-layer-norm.ts'
import { emitProduct, emitTogether, rowsOf } from './lower-linear.ts'
import { lowerUnary } from './lower-unary.ts'
import { blocksOpset, encodeModel } from './schema.ts'

type OnnxRule<Op extends OpName> = (e: Emitter, node: Node<Op>) => void

/**
 * The bytes of an ONNX model that computes `graph`, its weights left where they are on disk, or fed. For another form than float32
 * `weights` holds what `frozenProducts` of the graph need too.
 */
export function lower(graph: Graph, weights: Weights, options: EmitterOptions = {}): Uint8Array {
  const e = new Emitter(graph, weights, options)
  const apply = <Op extends OpName>(node: Node<Op>): void => onnxRules[node.op](e, node)
  for (const node of graph.nodes) apply(node as Node)
  return encodeModel(e.finish(), e.form === 'float32' ? undefined : blocksOpset)
}

const outputOf = (node: { readonly outputs: readonly Value[] }): Value => node.outputs[0] as Value
const isLast = (value: Value, axis: number): boolean => axis === value.shape.length - 1
const isScalar = (value: Value): boolean => value.shape.length === 0
const sameRows = (x: Value, y: Value): boolean =>
  x.shape.length === y.shape.length && x.shape.every((dim, i) => dim === y.shape[i])

/** Same rows or a scalar beside rows stay flat; anything else broadcasts in its full shape. */
function lowerElementwise(opType: 'Add' | 'Mul'): OnnxRule<'add'> {
  return (e, node) => {
    const [x, y] = node.inputs
    const output = outputOf(node)
    if (sameRows(x, y) && x.shape.length > 1) e.setFlat(output, e.emit(opType, [e.flat(x), e.flat(y)]))
    else if (isScalar(y) && x.shape.length > 1) e.setFlat(output, e.emit(opType, [e.flat(x), e.full(y)]))
    else e.setFull(output, e.emit(opType, [e.full(x), e.full(y)]))
  }
}

const onnxRules: { readonly [Op in OpName]: OnnxRule<Op> } = {
  input: (e, node) => e.setFull(outputOf(node), node.attributes.name),
  weight: (e, node) => e.setFull(outputOf(node), e.weight(node.attributes.name, node.attributes.shape)),
  constant: (e, node) => {
    const { fill, shape } = node.attributes
    const scalar = e.float(fill)
    e.setFull(outputOf(node), shape.length === 0 ? scalar : e.emit('Expand', [scalar, e.shape(shape)]))
  },

  add: lowerElementwise('Add'),
  mul: (e, node) => lowerElementwise('Mul')(e, node as unknown as Node<'add'>),
  tanh: (e, node) => lowerUnary(e, node, (x) => e.emit('Tanh', [x])),

  linear: (e, node) => {
    const [x, w, b] = node.inputs
    const together = emitTogether(e, node)
    if (together !== null) return e.setFlat(outputOf(node), together)
    const bias = b === undefined ? {} : { bias: e.full(b) }
    e.setFlat(outputOf(node), emitProduct(e, rowsOf(e, x), w, { ...node.attributes, ...bias }))
  },
  outer: (e, node) => {
    const [x, y] = node.inputs
    e.setFlat(outputOf(node), e.emit('Gemm', [e.flat(x), e.flat(y)], { attributes: { transA: 1 } }))
  },

  reshape: (e, node) => {
    const [x] = node.inputs
    const { shape } = node.attributes
    // The same rows in another arrangement: nothing to do until somebody asks for the full shape.
    if (x.shape.length > 1 && shape.length > 1 && shape.at(-1) === x.shape.at(-1)) e.setFlat(outputOf(node), e.flat(x))
    else e.setFull(outputOf(node), e.emit('Reshape', [e.full(x), e.shape(shape)]))
  },
  transpose: (e, node) => {
    const attributes = { perm: node.attributes.permutation }
    e.setFull(outputOf(node), e.emit('Transpose', [e.full(node.inputs[0])], { attributes }))
  },
  split: (e, node) => {
    const [x] = node.inputs
    const { axis, sizes } = node.attributes
    const flat = isLast(x, axis) && x.shape.length > 1
    const attributes = { axis: flat ? 1 : axis }
    const names = e.emitMany('Split', [flat ? e.flat(x) : e.full(x), e.integers(sizes)], sizes.length, { attributes })
    node.outputs.forEach((output, i) =>
      flat ? e.setFlat(output, names[i] as string) : e.setFull(output, names[i] as string),
    )
  },
  // Along the first axis rows follow each other, along the last one they grow: both leave them flat.
  concat: (e, node) => {
    const { axis } = node.attributes
    const output = outputOf(node)
    const flat = output.shape.length > 1 && (axis === 0 || isLast(output, axis))
    const inputs = node.inputs.map((x) => (flat ? e.flat(x) : e.full(x)))
    const name = e.emit('Concat', inputs, { attributes: { axis: flat && axis > 0 ? 1 : axis } })
    if (flat) e.setFlat(output, name)
    else e.setFull(output, name)
  },
  // ReduceSum keeps the rank; the reshape drops the axes that broadcasting had added in front.
  sumTo: (e, node) => {
    const [x] = node.inputs
    const { shape } = node.attributes
    const offset = x.shape.length - shape.length
    const axes = x.shape
      .map((_, axis) => axis)
      .filter((axis) => axis < offset || (shape[axis - offset] === 1 && x.shape[axis] !== 1))
    const summed = axes.length === 0 ? e.full(x) : e.emit('ReduceSum', [e.full(x), e.integers(axes)])
    e.setFull(outputOf(node), offset === 0 ? summed : e.emit('Reshape', [summed, e.shape(shape)]))
  },
  broadcastTo: (e, node) =>
    e.setFull(outputOf(node), e.emit('Expand', [e.full(node.inputs[0]), e.shape(node.attributes.shape)])),

  joinRows: (e, node) => {
    const inputs = node.inputs.map((x) => e.flat(x))
    e.setFlat(outputOf(node), e.emit('Concat', inputs, { attributes: { axis: 0 } }))
  },
  splitRows: (e, node) => {
    const rows = node.attributes.shapes.map((shape) => e.product(shape.slice(0, -1)))
    const sizes = e.emit('Concat', rows, { attributes: { axis: 0 } })
    const names = e.emitMany('Split', [e.flat(node.inputs[0]), sizes], rows.length, { attributes: { axis: 0 } })
    node.outputs.forEach((output, i) => e.setFlat(output, names[i] as string))
  },

  gather: (e, node) => {
    const [x, indices] = node.inputs
    e.setFull(outputOf(node), e.emit('Gather', [e.flat(x), e.full(indices)], { attributes: { axis: 0 } }))
  },
  scatterAdd: (e, node) => {
    const [rows, indices] = node.inputs
    const { shape } = node.attributes
    const zeros = e.emit('Expand', [e.float(0), e.shape(shape)])
    const flatZeros = e.emit('Reshape', [zeros, e.integers([-1, shape.at(-1) as number])])
    const column = e.emit('Reshape', [e.full(indices), e.integers([-1, 1])])
    const at = e.emit('Cast', [column], { attributes: { to: 7 } })
    e.setFlat(outputOf(node), e.emit('ScatterND', [flatZeros, at, e.flat(rows)], { attributes: { reduction: 'add' } }))
  },

  layerNorm: lowerLayerNorm,
  layerNormGrad: lowerLayerNormGrad,

  gelu: lowerGelu,
  geluGrad: lowerGeluGrad,
  exactGelu: lowerExactGelu,
  exactGeluGrad: lowerExactGeluGrad,

  attention: (e, node) => (e.has('attentionGrad') ? lowerTrainedAttention(e, node) : lowerAttention(e, node)),
  attentionGrad: lowerAttentionGrad,
  crossAttention: lowerCrossAttention,
  crossAttentionGrad: lowerCrossAttentionGrad,

  crossEntropy: lowerCrossEntropy,
  crossEntropyGrad: lowerCrossEntropyGrad,
}

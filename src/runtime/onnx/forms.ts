// The forms in which a product with a frozen weight can be computed, and which tensors each of them needs.
import type { Graph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { TensorPlan } from '../../tensor/safetensors.ts'

/**
 * - `float32`: the weight as it lies in the checkpoint.
 * - `blocks`: MatMulNBits; weights of 8 bits with a scale for each block of 128 along the summed axis.
 * - `signed`, `unsigned`, `mixed`: integer products; each row of the input in 8 bits by its own largest magnitude, weights with
 *   a scale for each column. Weights are stored in these bytes, in `mixed` as unsigned ones for the way forward and in 7 bits
 *   for the way back and for logits, where the last bit does not matter.
 * - `paired`: as `signed`, but two weights that follow each other along the summed axis are together no larger than 128: kernels
 *   that add two products in 16 bits are exact with that, and steps are a third larger, where 7 bits make them twice as large.
 */
export type LinearForm = 'float32' | QuantizedForm
/** Of what serves. `words`: not onnxruntime's, but machine code of our own, with weights of ten bits and rows of fifteen (`avx2`). */
export type ServingForm = LinearForm | 'words'
export type QuantizedForm = 'blocks' | 'signed' | 'unsigned' | 'paired' | 'mixed'

/** The more exact ones first. */
export const quantizedForms: readonly QuantizedForm[] = ['blocks', 'signed', 'unsigned', 'paired', 'mixed']

/**
 * How the weights of a product are stored. Processors have different kernels for integers: the one for signed weights is the
 * fastest, but on some it saturates and may not be used (see `measure.ts`) unless weights have no more than 7 bits, or are small
 * in pairs.
 */
export type StoredBytes = 'blocks' | IntegerBytes
export type IntegerBytes = 'signed' | 'unsigned' | 'paired' | 'signed7'

/** Every kind of integers that products of `form` are computed in. */
export function integersOf(form: LinearForm): readonly IntegerBytes[] {
  if (form === 'mixed') return ['unsigned', 'signed7']
  return form === 'float32' || form === 'blocks' ? [] : [form]
}

/** Steps of a weight from 0 to the largest magnitude under its scale; in `paired` of two neighbours together, before both are rounded. */
export const stepsOf = (bytes: StoredBytes): number => (bytes === 'signed7' ? 63 : 127)
/** What a weight of 0 is stored as. */
export const zeroOf = (bytes: StoredBytes): number => (bytes === 'blocks' || bytes === 'unsigned' ? unsignedZero : 0)
/** The middle of a byte. */
export const unsignedZero = 128

/** Values that share a scale in `blocks`. */
export const blockSize = 128

/** A weight [rows, columns] as a graph uses it: y = x · w, or y = x · wᵀ where `transposed`. */
export interface Product {
  readonly name: string
  readonly shape: readonly [rows: number, columns: number]
  readonly transposed: boolean
  readonly bytes: StoredBytes
}

/** Names of what a product needs on disk. Scales sort before values: so they begin at multiples of four. */
export function tensorNames({ name, transposed }: Pick<Product, 'name' | 'transposed'>): {
  readonly scales: string
  readonly values: string
} {
  const side = transposed ? 'transposed' : 'plain'
  return { scales: `scales.${name}.${side}`, values: `values.${name}.${side}` }
}

/** What a product needs on disk, and its shapes: [in, out] for integer products, [out, block, in block] for blocks. */
export function tensorPlans(product: Product): { readonly scales: TensorPlan; readonly values: TensorPlan } {
  const [rows, columns] = product.shape
  const [K, N] = product.transposed ? [columns, rows] : [rows, columns]
  const { scales, values } = tensorNames(product)
  const blocks = Math.ceil(K / blockSize)
  return {
    scales: { name: scales, dtype: 'F32', shape: product.bytes === 'blocks' ? [N * blocks] : [N] },
    values: {
      name: values,
      dtype: zeroOf(product.bytes) === 0 ? 'I8' : 'U8',
      shape: product.bytes === 'blocks' ? [N, blocks, blockSize] : [K, N],
    },
  }
}

/** Every product of the graph that `form` computes in 8 bits, each once, by name. */
export function frozenProducts(graph: Graph, form: QuantizedForm): readonly Product[] {
  const [fine, coarse] = form === 'mixed' ? (['unsigned', 'signed7'] as const) : [form, form]
  const products = new Map<string, Product>()
  const forward = new Map<string, boolean>()
  const add = (weight: Value, transposed: boolean, isLogits: boolean): void => {
    if (weight.node.op !== 'weight') return
    const { name, shape } = weight.node.attributes
    // A gradient comes after what it is of: the way that a weight is first used in is the way forward.
    if (!forward.has(name)) forward.set(name, transposed)
    const bytes = isLogits || forward.get(name) !== transposed ? coarse : fine
    const product = { name, shape: shape as unknown as Product['shape'], transposed, bytes }
    products.set(tensorNames(product).values, product)
  }
  for (const node of graph.nodes) {
    if (node.op === 'linear') add(node.inputs[1], node.attributes.transposed, false)
    if (node.op === 'crossEntropy' || node.op === 'crossEntropyGrad') add(node.inputs[1], true, true)
    if (node.op === 'crossEntropyGrad') add(node.inputs[1], false, true)
  }
  return [...products.keys()].sort().map((key) => products.get(key) as Product)
}

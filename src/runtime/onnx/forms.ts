// The forms in which a product with a frozen weight can be computed, and which tensors each of them needs.
import type { Graph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { TensorPlan } from '../../tensor/safetensors.ts'

/**
 * - `float32`: the weight as it lies in the checkpoint.
 * - `blocks`: MatMulNBits; weights of 8 bits with a scale for each block of 128 along the summed axis.
 * - `signed`, `unsigned`, `signed7`: integer products; each row of the input in 8 bits by its own largest magnitude, weights
 *   with a scale for each column. They differ in how weights are stored, for which processors have different kernels: the
 *   one for signed weights is the fastest, but on some processors it saturates and may not be used (see `measure.ts`) unless
 *   weights have no more than 7 bits.
 */
export type LinearForm = 'float32' | 'blocks' | IntegerForm
export type IntegerForm = 'signed' | 'unsigned' | 'signed7'
export type QuantizedForm = Exclude<LinearForm, 'float32'>

/** The more exact ones first. */
export const quantizedForms: readonly QuantizedForm[] = ['blocks', 'signed', 'unsigned', 'signed7']

/** Steps of a weight from 0 to the largest magnitude under its scale. */
export const stepsOf = (form: QuantizedForm): number => (form === 'signed7' ? 63 : 127)
/** What a weight of 0 is stored as. */
export const zeroOf = (form: QuantizedForm): number => (form === 'signed' || form === 'signed7' ? 0 : unsignedZero)
/** The middle of a byte. */
export const unsignedZero = 128

/**
 * Whether the head's gradient, a mean of the embeddings weighed by probabilities, is computed in 8 bits. With one scale for
 * a row of 50,000 probabilities all but a few of them become 0, and their sum matters; a scale for each 128 keeps them.
 */
export const mixesInEightBits = (form: LinearForm): boolean => form === 'blocks'

/** Values that share a scale in `blocks`. */
export const blockSize = 128

/** A weight [rows, columns] as a graph uses it: y = x · w, or y = x · wᵀ where `transposed`. */
export interface Product {
  readonly name: string
  readonly shape: readonly [rows: number, columns: number]
  readonly transposed: boolean
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
export function tensorPlans(
  form: QuantizedForm,
  product: Product,
): { readonly scales: TensorPlan; readonly values: TensorPlan } {
  const [rows, columns] = product.shape
  const [K, N] = product.transposed ? [columns, rows] : [rows, columns]
  const { scales, values } = tensorNames(product)
  const blocks = Math.ceil(K / blockSize)
  return {
    scales: { name: scales, dtype: 'F32', shape: form === 'blocks' ? [N * blocks] : [N] },
    values: {
      name: values,
      dtype: zeroOf(form) === 0 ? 'I8' : 'U8',
      shape: form === 'blocks' ? [N, blocks, blockSize] : [K, N],
    },
  }
}

/** Every product of the graph that `form` computes in 8 bits, each once, by name. */
export function frozenProducts(graph: Graph, form: QuantizedForm): readonly Product[] {
  const products = new Map<string, Product>()
  const add = (weight: Value, transposed: boolean): void => {
    if (weight.node.op !== 'weight') return
    const { name, shape } = weight.node.attributes
    const product = { name, shape: shape as unknown as Product['shape'], transposed }
    products.set(tensorNames(product).values, product)
  }
  for (const node of graph.nodes) {
    if (node.op === 'linear') add(node.inputs[1], node.attributes.transposed)
    if (node.op === 'crossEntropy' || node.op === 'crossEntropyGrad') add(node.inputs[1], true)
    if (node.op === 'crossEntropyGrad' && mixesInEightBits(form)) add(node.inputs[1], false)
  }
  return [...products.keys()].sort().map((key) => products.get(key) as Product)
}

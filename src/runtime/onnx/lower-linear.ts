// Products with frozen weights in ONNX: in float32, or in 8 bits in the form that was chosen.
import assert from 'node:assert/strict'
import type { Node, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { blockSize, tensorNames, unsignedZero, zeroOf, type IntegerBytes, type StoredBytes } from './forms.ts'

interface ProductOptions {
  readonly transposed: boolean
  /** Added to each row. */
  readonly bias?: string
}

/** x · w, or x · wᵀ where `transposed`, of rows `x`: the name of the rows that come of it. */
export function emitProduct(e: Emitter, x: string, w: Value, { transposed, bias }: ProductOptions): string {
  if (e.form === 'float32' || w.node.op !== 'weight') {
    const inputs = [x, e.full(w), ...(bias === undefined ? [] : [bias])]
    return e.emit('Gemm', inputs, { attributes: { transB: transposed ? 1 : 0 } })
  }
  const { bytes, values, scales } = storedProduct(e, w.node.attributes.name, transposed)
  if (bytes === 'blocks') {
    const [K, N] = (transposed ? w.shape.toReversed() : w.shape) as readonly [number, number]
    // Level 4: the rows of x are put into 8 bits too, block by block.
    const attributes = { K, N, bits: 8, block_size: blockSize, accuracy_level: 4 }
    return withBias(e, e.emit('MatMulNBits', [x, values, scales], { attributes, domain: 'com.microsoft' }), bias)
  }
  return withBias(e, integerProduct(e, bytes, x, values, scales), bias)
}

/**
 * What a product comes to where others of the same rows lie beside it, as in a decoder those that make query, key and value: one
 * product with the weights side by side, which onnxruntime puts together once. Null where it stands alone.
 */
export function emitTogether(e: Emitter, node: Node<'linear'>): string | null {
  const { transposed } = node.attributes
  const all = e.form === 'float32' || e.form === 'blocks' || !e.isDecoding ? [] : e.besides(node)
  if (all.length < 2) return null
  const stored = all.map(({ inputs: [, w] }) =>
    storedProduct(e, w.node.op === 'weight' ? w.node.attributes.name : '', transposed),
  )
  const beside = (names: readonly string[], axis: number): string => e.emit('Concat', names, { attributes: { axis } })
  const values = beside(
    stored.map((each) => each.values),
    1,
  )
  const scales = beside(
    stored.map((each) => each.scales),
    0,
  )
  const bias = beside(
    all.map(({ inputs: [, , b] }) => frozen(e, b as Value)),
    0,
  )
  const bytes = (stored[0] as StoredProduct).bytes as IntegerBytes
  const product = withBias(e, integerProduct(e, bytes, e.flat(node.inputs[0]), values, scales), bias)
  const sizes = all.map(({ outputs }) => outputs[0]?.shape.at(-1) as number)
  const parts = e.emitMany('Split', [product, e.integers(sizes)], all.length, { attributes: { axis: 1 } })
  return parts[all.indexOf(node)] as string
}

/** A frozen weight, which need not have been lowered yet. */
function frozen(e: Emitter, { node }: Value): string {
  assert.ok(node.op === 'weight')
  return e.weight(node.attributes.name, node.attributes.shape)
}

export interface StoredProduct {
  readonly bytes: StoredBytes
  readonly values: string
  readonly scales: string
}

/** What a product with a frozen weight reads in the place of the weight. */
export function storedProduct(e: Emitter, name: string, transposed: boolean): StoredProduct {
  const product = e.product8({ name, transposed })
  const names = tensorNames(product)
  return { bytes: product.bytes, values: e.stored(names.values), scales: e.stored(names.scales) }
}

/**
 * Row i of x is s[i] · q[i] with q in 8 bits and s[i] = max |x[i]| / 127, so that small rows keep as many digits as large
 * ones: y[i] = s[i] · (q[i] · values) · scales. Where x[i] itself is still to be scaled, by a positive number, q[i] is the same
 * without it, and only s[i] has it.
 */
function integerProduct(e: Emitter, bytes: IntegerBytes, x: string, values: string, scales: string): string {
  const later = e.rowScaled(x)
  const { quantized, perRow } = quantizeRows(e, later?.rows ?? x)
  const product = integerSums(e, { rows: quantized, zero: unsignedZero }, { bytes, values, scales })
  const column = e.emit('Unsqueeze', [perRow, e.integers([1])])
  return e.scaleRows(product, later === null ? column : e.emit('Mul', [column, later.scales]))
}

/** (rows − zero) · values · scales, with `rows` in unsigned bytes. */
export function integerSums(
  e: Emitter,
  { rows, zero }: { readonly rows: string; readonly zero: number },
  { bytes, values, scales }: StoredProduct,
): string {
  const zeros = [e.byte(zero, 0), ...(zeroOf(bytes) === 0 ? [] : [e.byte(unsignedZero, 0)])]
  return e.emit('MatMulIntegerToFloat', [rows, values, e.float(1), scales, ...zeros], { domain: 'com.microsoft' })
}

function quantizeRows(e: Emitter, x: string): { readonly quantized: string; readonly perRow: string } {
  const along = { attributes: { keepdims: 0 } }
  const [top, bottom] = ['ReduceMax', 'ReduceMin'].map((op) => e.emit(op, [x, e.integers([-1])], along)) as [
    string,
    string,
  ]
  const largest = e.emit('Max', [top, e.emit('Neg', [bottom]), e.float(smallest)])
  const perRow = e.emit('Mul', [largest, e.float(1 / 127)])
  return { quantized: quantizeBy(e, x, perRow, unsignedZero), perRow }
}

/** Each row over its scale in whole numbers, `zero` more than that. */
export function quantizeBy(e: Emitter, x: string, perRow: string, zero: number): string {
  const zeros = e.emit('Expand', [e.byte(zero, 1), e.rowCount(x) ?? e.emit('Shape', [perRow])])
  return e.emit('QuantizeLinear', [x, perRow, zeros], { attributes: { axis: 0 } })
}

/** A row of zeros is divided by this. */
const smallest = 1e-30

function withBias(e: Emitter, product: string, bias: string | undefined): string {
  return bias === undefined ? product : e.emit('Add', [product, bias])
}

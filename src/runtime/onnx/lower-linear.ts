// Products with frozen weights in ONNX: in float32, or in 8 bits in the form that was chosen.
import assert from 'node:assert/strict'
import type { Node, Value } from '../../graph/ops.ts'
import type { Shape } from '../../graph/shape.ts'
import type { Emitter } from './emitter.ts'
import { blockSize, tensorNames, unsignedZero, zeroOf, type IntegerBytes, type StoredBytes } from './forms.ts'

interface ProductOptions {
  readonly transposed: boolean
  /** Added to each row. */
  readonly bias?: string
}

export interface Rows {
  readonly name: string
  /** Extents that are the number of rows together. */
  readonly count: Shape
  readonly width: number
}

/** All axes but the last are rows. */
export const rowsOf = (e: Emitter, x: Value): Rows => ({
  name: e.flat(x),
  count: x.shape.slice(0, -1),
  width: x.shape.at(-1) as number,
})

/** x · w, or x · wᵀ where `transposed`: the name of the rows that come of it. */
export function emitProduct(e: Emitter, x: Rows, w: Value, { transposed, bias }: ProductOptions): string {
  if (e.form === 'float32' || w.node.op !== 'weight') {
    const inputs = [x.name, e.full(w), ...(bias === undefined ? [] : [bias])]
    return e.emit('Gemm', inputs, { attributes: { transB: transposed ? 1 : 0 } })
  }
  const { bytes, values, scales } = storedProduct(e, w.node.attributes.name, transposed)
  if (bytes === 'blocks') {
    const [K, N] = (transposed ? w.shape.toReversed() : w.shape) as readonly [number, number]
    // Level 4: the rows of x are put into 8 bits too, block by block.
    const attributes = { K, N, bits: 8, block_size: blockSize, accuracy_level: 4 }
    return withBias(e, e.emit('MatMulNBits', [x.name, values, scales], { attributes, domain: 'com.microsoft' }), bias)
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
  const product = withBias(e, integerProduct(e, bytes, rowsOf(e, node.inputs[0]), values, scales), bias)
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
function integerProduct(e: Emitter, bytes: IntegerBytes, x: Rows, values: string, scales: string): string {
  const later = e.rowScaled(x.name)
  const now = later === null ? x : { ...x, name: later.rows }
  const { perRow, zero } = stepsOfRows(e, now.name)
  const rows = quantizeBy(e, now, perRow, zero)
  const product = integerSums(e, { rows, zero }, { bytes, values, scales })
  return e.scaleRows(product, later === null ? perRow : e.emit('Mul', [perRow, later.scales]))
}

/** (rows − zero) · values · scales, with `rows` in unsigned bytes. */
export function integerSums(
  e: Emitter,
  { rows, zero }: { readonly rows: string; readonly zero: number },
  { bytes, values, scales }: StoredProduct,
): string {
  const zeros = [e.byte(zero, 0), ...(zeroOf(bytes) === 0 ? [] : [e.byte(unsignedZero, 0)])]
  const inputs = [rows, values, e.float(1), scales, ...zeros]
  const sums = e.emit('MatMulIntegerToFloat', inputs, { domain: 'com.microsoft' })
  const scaled = (factors: string): StoredProduct => ({ bytes, values, scales: e.emit('Mul', [scales, factors]) })
  e.setColumnScaled(sums, (factors) => integerSums(e, { rows, zero }, scaled(factors)))
  return sums
}

/** What one step of each row is, [rows, 1], and the byte that 0 becomes. */
function stepsOfRows(e: Emitter, x: string): { readonly perRow: string; readonly zero: number } {
  const extreme = (op: 'ReduceMax' | 'ReduceMin'): string => e.emit(op, [x, e.integers([-1])])
  const bound = e.lowerBound(x)
  if (bound === null) {
    const largest = e.emit('Max', [extreme('ReduceMax'), e.emit('Neg', [extreme('ReduceMin')]), e.float(smallest)])
    return { perRow: e.emit('Mul', [largest, e.float(1 / 127)]), zero: unsignedZero }
  }
  // What is below 0 is known to be small: a few steps are enough for it, and the others are nearly twice as fine.
  const above = e.emit('Mul', [extreme('ReduceMax'), e.float(1 / (255 - lowZero))])
  return { perRow: e.emit('Max', [above, e.float(-bound / lowZero)]), zero: lowZero }
}

/** The byte that 0 becomes in rows that have a lower bound: with that of gelu, finer steps wherever a row has 0.7 or more. */
const lowZero = 32

/**
 * Each row over its step, `perRow` [rows, 1], in whole numbers, `zero` more than that. A row is one block: over blocks onnxruntime
 * shares the work among threads, over the steps of an axis it does not.
 */
export function quantizeBy(e: Emitter, { name, count, width }: Rows, perRow: string, zero: number): string {
  // Made once for all that have as many rows.
  const shape = e.emit('Concat', [e.product(count), e.integers([1])], { attributes: { axis: 0 } })
  const zeros = e.emit('Expand', [e.byte(zero, 1), shape])
  return e.emit('QuantizeLinear', [name, perRow, zeros], { attributes: { axis: 1, block_size: width } })
}

/** A row of zeros is divided by this. */
const smallest = 1e-30

function withBias(e: Emitter, product: string, bias: string | undefined): string {
  return bias === undefined ? product : e.addBias(product, bias)
}

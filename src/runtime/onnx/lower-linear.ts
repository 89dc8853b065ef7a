// Products with frozen weights in ONNX: in float32, or in 8 bits in the form that was chosen.
import type { Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { blockSize, tensorNames, unsignedZero, type IntegerForm } from './forms.ts'

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
  const names = tensorNames({ name: w.node.attributes.name, transposed })
  const [values, scales] = [e.stored(names.values), e.stored(names.scales)]
  if (e.form === 'blocks') {
    const [K, N] = (transposed ? w.shape.toReversed() : w.shape) as readonly [number, number]
    // Level 4: the rows of x are put into 8 bits too, block by block.
    const attributes = { K, N, bits: 8, block_size: blockSize, accuracy_level: 4 }
    return withBias(e, e.emit('MatMulNBits', [x, values, scales], { attributes, domain: 'com.microsoft' }), bias)
  }
  return withBias(e, integerProduct(e, e.form, x, values, scales), bias)
}

/**
 * Row i of x is s[i] · q[i] with q in 8 bits and s[i] = max |x[i]| / 127, so that small rows keep as many digits as large
 * ones: y[i] = s[i] · (q[i] · values) · scales. Where x[i] itself is still to be scaled, by a positive number, q[i] is the same
 * without it, and only s[i] has it.
 */
function integerProduct(e: Emitter, form: IntegerForm, x: string, values: string, scales: string): string {
  const later = e.rowScaled(x)
  const { quantized, perRow } = quantizeRows(e, later?.rows ?? x)
  const zero = e.byte(unsignedZero, 0)
  const inputs = [quantized, values, e.float(1), scales, zero, ...(form === 'unsigned' ? [zero] : [])]
  const product = e.emit('MatMulIntegerToFloat', inputs, { domain: 'com.microsoft' })
  const column = e.emit('Unsqueeze', [perRow, e.integers([1])])
  return e.scaleRows(product, later === null ? column : e.emit('Mul', [column, later.scales]))
}

function quantizeRows(e: Emitter, x: string): { readonly quantized: string; readonly perRow: string } {
  const along = { attributes: { keepdims: 0 } }
  const [top, bottom] = ['ReduceMax', 'ReduceMin'].map((op) => e.emit(op, [x, e.integers([-1])], along)) as [
    string,
    string,
  ]
  const largest = e.emit('Max', [top, e.emit('Neg', [bottom]), e.float(smallest)])
  const perRow = e.emit('Mul', [largest, e.float(1 / 127)])
  const zeros = e.emit('Expand', [e.byte(unsignedZero, 1), e.emit('Shape', [perRow])])
  return { quantized: e.emit('QuantizeLinear', [x, perRow, zeros], { attributes: { axis: 0 } }), perRow }
}

/** A row of zeros is divided by this. */
const smallest = 1e-30

function withBias(e: Emitter, product: string, bias: string | undefined): string {
  return bias === undefined ? product : e.emit('Add', [product, bias])
}

// Means of a table's rows weighed by probabilities, in ONNX: the gradient of a head, in float32 or in 8 bits.
import type { Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { integersOf, zeroOf } from './forms.ts'
import { emitProduct, integerSums, quantizeBy, storedProduct, type Rows, type StoredProduct } from './lower-linear.ts'
import { elementTypes } from './schema.ts'

interface Probabilities {
  /** [rows, vocabulary], each row adding up to 1. */
  readonly probabilities: Rows
  /** [rows, 1] */
  readonly largest: string
}

/**
 * p · table. With integers p[i] is s[i] · q[i] + r[i] with q in 8 bits and s[i] = max p[i] / 255: most of 50,000 probabilities
 * become 0, and what they add up to, 1 − Σ s[i] · q[i], is given to `meanRow`, the mean row of the table, in their place.
 */
export function emitMixture(
  e: Emitter,
  { probabilities, largest }: Probabilities,
  table: Value,
  meanRow: string,
): string {
  const stored = storedIntegers(e, table)
  if (stored === null) return emitProduct(e, probabilities, table, { transposed: false })
  const step = e.emit('Mul', [largest, e.float(1 / 255)])
  const rows = { rows: quantizeBy(e, probabilities, step, 0), zero: 0 }
  const kept = e.emit('Mul', [integerSums(e, rows, stored), step])
  const ones: StoredProduct = { bytes: 'signed', values: e.ones(table.shape[0] as number), scales: e.float(1) }
  const left = e.emit('Sub', [e.float(1), e.emit('Mul', [integerSums(e, rows, ones), step])])
  return e.emit('Add', [kept, e.emit('Mul', [left, meanRow])])
}

/** Rows of the table as they are mixed: where a label is sure the two cancel, and so does what 8 bits have rounded. */
export function emitRows(e: Emitter, table: Value, indices: string): string {
  const rowsOf = (of: string): string => e.emit('Gather', [of, indices], { attributes: { axis: 0 } })
  const stored = storedIntegers(e, table)
  if (stored === null) return rowsOf(e.full(table))
  const bytes = e.emit('Cast', [rowsOf(stored.values)], { attributes: { to: elementTypes.float32 } })
  return e.emit('Mul', [e.emit('Sub', [bytes, e.float(zeroOf(stored.bytes))]), stored.scales])
}

function storedIntegers(e: Emitter, table: Value): StoredProduct | null {
  if (integersOf(e.form).length === 0 || table.node.op !== 'weight') return null
  return storedProduct(e, table.node.attributes.name, false)
}

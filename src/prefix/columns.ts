// Keys and values as rows of one matrix, a row a virtual token: how PEFT and the paper's network lay them out.
import type { Prefix } from './prefix.ts'

export interface ColumnShape {
  readonly prefixLength: number
  readonly layers: number
  readonly heads: number
  readonly headDim: number
}

/** Numbers in a row: keys and values of all layers. */
export function columnCount({ layers, heads, headDim }: Omit<ColumnShape, 'prefixLength'>): number {
  return 2 * layers * heads * headDim
}

/**
 * From rows [P, layers·2·heads·headDim] to keys and values [layers, heads, P, headDim].
 * Column = ((2·layer + s)·heads + head)·headDim + i, with s = 0 for keys and 1 for values.
 */
export function fromColumns(rows: ArrayLike<number>, shape: ColumnShape): Pick<Prefix, 'keys' | 'values'> {
  const size = (shape.prefixLength * columnCount(shape)) / 2
  const keys = new Float32Array(size)
  const values = new Float32Array(size)
  walk(shape, (row, at) => {
    const { headDim } = shape
    const valuesAfter = shape.heads * headDim
    for (let i = 0; i < headDim; i++) {
      keys[at + i] = rows[row + i] as number
      values[at + i] = rows[row + valuesAfter + i] as number
    }
  })
  return { keys, values }
}

/** The way back, [P, layers·2·heads·headDim]. */
export function toColumns({ keys, values }: Pick<Prefix, 'keys' | 'values'>, shape: ColumnShape): Float32Array {
  const { heads, headDim } = shape
  const rows = new Float32Array(keys.length + values.length)
  walk(shape, (row, at) => {
    rows.set(keys.subarray(at, at + headDim), row)
    rows.set(values.subarray(at, at + headDim), row + heads * headDim)
  })
  return rows
}

/** Visits each head of each virtual token: where its keys lie in the rows, and where in [layers, heads, P, headDim]. */
function walk(shape: ColumnShape, visit: (row: number, at: number) => void): void {
  const { prefixLength, layers, heads, headDim } = shape
  const columns = columnCount(shape)
  let at = 0
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const column = (2 * layer * heads + head) * headDim
      for (let token = 0; token < prefixLength; token++, at += headDim) visit(token * columns + column, at)
    }
  }
}

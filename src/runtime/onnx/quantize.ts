// A float32 matrix in 8 bits: the nearest of equally spaced values around 0, whose spacing is the scale.
import { blockSize, stepsOf, unsignedZero, zeroOf, type IntegerBytes } from './forms.ts'

/** A matrix [rows, columns] in row-major order; read as its transpose [columns, rows] where `transposed`. */
export interface Matrix {
  readonly data: Float32Array
  readonly rows: number
  readonly columns: number
  readonly transposed: boolean
}

export interface Quantized<Bytes extends Int8Array | Uint8Array> {
  readonly values: Bytes
  readonly scales: Float32Array
}

/**
 * One scale for each column of the matrix as read. Column j is `scales[j] · values[·, j]`, each element off by half a
 * scale at most. Values are row-major as read, `zeroOf(bytes)` more than that.
 */
export function quantizeColumns(matrix: Matrix, bytes: IntegerBytes): Quantized<Int8Array | Uint8Array> {
  const { data, rows, columns, transposed } = matrix
  const [inside, outside] = transposed ? [columns, rows] : [rows, columns]
  const largest = largestOf(matrix, bytes === 'paired' ? 2 : 1)
  const [steps, zero] = [stepsOf(bytes), zeroOf(bytes)]
  const scales = largest.map((magnitude) => magnitude / steps)
  const inverses = scales.map(inverseOf)
  const values = zero === 0 ? new Int8Array(inside * outside) : new Uint8Array(inside * outside)
  const write = (r: number, c: number): void => {
    const [at, j] = transposed ? [c * rows + r, r] : [r * columns + c, c]
    values[at] = nearest(data[r * columns + c] as number, inverses[j] as number, steps) + zero
  }
  inTiles(rows, columns, write)
  return { values, scales }
}

/** The largest magnitude in each column of the matrix as read; or the largest sum of those of `together` elements that follow each other. */
function largestOf({ data, rows, columns, transposed }: Matrix, together: number): Float32Array {
  const largest = new Float32Array(transposed ? rows : columns)
  const sums = new Float32Array(largest.length)
  // Along the rows of `data` whichever way it is read: memory is slow at large strides.
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const [j, k] = transposed ? [r, c] : [c, r]
      const magnitude = Math.abs(data[r * columns + c] as number)
      const sum = k % together === 0 ? magnitude : magnitude + (sums[j] as number)
      sums[j] = sum
      if (sum > (largest[j] as number)) largest[j] = sum
    }
  }
  return largest
}

/**
 * One scale for each block of 128 elements along a column of the matrix as read, column by column: values [columns, blocks,
 * 128], scales [columns · blocks]. The last block is filled up with zeros. Values are 128 more.
 */
export function quantizeBlocks({ data, rows, columns, transposed }: Matrix): Quantized<Uint8Array> {
  const [inside, outside] = transposed ? [columns, rows] : [rows, columns]
  const [blocks, steps] = [Math.ceil(inside / blockSize), stepsOf('blocks')]
  const blockOf = (r: number, c: number): number =>
    transposed ? r * blocks + Math.floor(c / blockSize) : c * blocks + Math.floor(r / blockSize)
  const scales = new Float32Array(outside * blocks)
  inTiles(rows, columns, (r, c) => {
    const magnitude = Math.abs(data[r * columns + c] as number) / steps
    const block = blockOf(r, c)
    if (magnitude > (scales[block] as number)) scales[block] = magnitude
  })
  const inverses = scales.map(inverseOf)
  const values = new Uint8Array(outside * blocks * blockSize).fill(unsignedZero)
  inTiles(rows, columns, (r, c) => {
    const block = blockOf(r, c)
    const at = block * blockSize + ((transposed ? c : r) % blockSize)
    values[at] = nearest(data[r * columns + c] as number, inverses[block] as number, steps) + unsignedZero
  })
  return { values, scales }
}

/** A column of zeros has scale 0: whatever its values are, it stays zero. */
function inverseOf(scale: number): number {
  return scale > 0 ? 1 / scale : 0
}

/** Rounding of scale and inverse may carry the largest element a hair beyond the last step. */
function nearest(value: number, inverse: number, steps: number): number {
  return Math.max(-steps, Math.min(steps, Math.round(value * inverse)))
}

/** Rows and columns of a tile, read along the one and written along the other within the nearest cache. */
const tile = 64

function inTiles(rows: number, columns: number, visit: (r: number, c: number) => void): void {
  for (let r0 = 0; r0 < rows; r0 += tile) {
    for (let c0 = 0; c0 < columns; c0 += tile) {
      const [r1, c1] = [Math.min(r0 + tile, rows), Math.min(c0 + tile, columns)]
      for (let r = r0; r < r1; r++) for (let c = c0; c < c1; c++) visit(r, c)
    }
  }
}

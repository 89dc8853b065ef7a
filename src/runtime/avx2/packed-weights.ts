// A frozen matrix as the kernel for products reads it: panels of columns, in blocks along the summed axis.
import assert from 'node:assert/strict'
import { blockBytes, blockPairs, lowBits, pairsTogether, panelColumns, weightSteps } from './kernels/packing.ts'

export interface PackedWeight {
  /** Inputs with those of weight 0 behind them, a multiple of 16. */
  readonly padded: number
  readonly columns: number
  readonly panels: number
  readonly blocks: number
  readonly lastPairs: number
  readonly panelBytes: number
  readonly values: Uint8Array
  /** float32 [panel, block, column] */
  readonly scales: Float32Array
}

/** `data` is [inner, columns], or [columns, inner] where `transposed`; `allocate` gives zeros. */
export function packWeight(
  data: Float32Array,
  inner: number,
  columns: number,
  transposed: boolean,
  allocate: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes),
): PackedWeight {
  assert.ok(inner % 8 === 0 && data.length === inner * columns)
  const padded = 16 * Math.ceil(inner / 16)
  const panels = Math.ceil(columns / panelColumns)
  const blockInner = 2 * blockPairs
  const blocks = Math.ceil(padded / blockInner)
  const lastPairs = (padded - (blocks - 1) * blockInner) / 2
  const panelBytes = (blocks - 1) * blockBytes(blockPairs) + blockBytes(lastPairs)
  const values = allocate(panels * panelBytes)
  const scales = new Float32Array(panels * blocks * panelColumns)
  const [steps, inverse] = [new Float32Array(blockInner * panelColumns), new Float64Array(panelColumns)]
  for (let panel = 0; panel < panels; panel++) {
    for (let block = 0; block < blocks; block++) {
      const pairs = block === blocks - 1 ? lastPairs : blockPairs
      fetchBlock({ data, inner, columns, transposed }, panel * panelColumns, block * blockInner, 2 * pairs, steps)
      scaleBlock(steps, 2 * pairs, scales.subarray((panel * blocks + block) * panelColumns), inverse)
      packBlock(steps, inverse, pairs, values, panel * panelBytes + block * blockBytes(blockPairs))
    }
  }
  return { padded, columns, panels, blocks, lastPairs, panelBytes, values, scales }
}

/** Of a matrix [inner, columns], or [columns, inner] where `transposed`, to zeros: [panel, inner, 16] in float32. */
export function packPanels(
  data: Float32Array,
  { inner, columns, transposed }: Pick<Matrix, 'inner' | 'columns' | 'transposed'>,
  to: Float32Array,
): void {
  for (let first = 0; first < columns; first += panelColumns) {
    const there = Math.min(panelColumns, columns - first)
    const panel = first * inner
    if (transposed) {
      for (let c = 0; c < there; c++) {
        const from = (first + c) * inner
        for (let k = 0; k < inner; k++) to[panel + k * panelColumns + c] = data[from + k] as number
      }
    } else {
      for (let k = 0; k < inner; k++) {
        const [from, at] = [k * columns + first, panel + k * panelColumns]
        for (let c = 0; c < there; c++) to[at + c] = data[from + c] as number
      }
    }
  }
}

const lowMask = 2 ** lowBits - 1
/** Added, a number is above 0, and what is cut off rounds it. */
const above = 2 ** 16
const pairBytes = 2 * panelColumns

/** A few pairs of inputs after the others: upper bytes of all, and their low bits behind them, of the first pair the highest in their bytes. */
function packBlock(numbers: Float32Array, inverse: Float64Array, pairs: number, values: Uint8Array, at: number): void {
  let group = at
  for (let pair = 0; pair < pairs; pair += pairsTogether, group += blockBytes(pairsTogether)) {
    for (let byte = 0; byte < pairBytes; byte++) {
      const [column, odd] = [columnOf(byte), byte & 1]
      let low = 0
      for (let among = 0; among < pairsTogether; among++) {
        const input = 2 * (pair + among) + odd
        const exact = (numbers[input * panelColumns + column] as number) * (inverse[column] as number)
        const step = ((exact + (above + 0.5)) | 0) - above
        values[group + among * pairBytes + byte] = step >> lowBits
        low |= (step & lowMask) << (8 - lowBits * (among + 1))
      }
      values[group + pairsTogether * pairBytes + byte] = low
    }
  }
}

/** Of a byte of a pair: bytes are spread to words eight at a time, of each half of a vector the lower ones first. */
function columnOf(byte: number): number {
  const [half, upper, within] = [byte >> 4, (byte >> 3) & 1, byte & 7]
  return 8 * upper + 4 * half + (within >> 1)
}

interface Matrix {
  readonly data: Float32Array
  readonly inner: number
  readonly columns: number
  readonly transposed: boolean
}

/** `count` inputs of a panel's columns, input by input; 0 for columns that are not there. */
function fetchBlock(
  { data, inner, columns, transposed }: Matrix,
  column: number,
  input: number,
  count: number,
  to: Float32Array,
): void {
  const there = Math.min(panelColumns, columns - column)
  const known = Math.min(count, inner - input)
  if (there < panelColumns || known < count) to.fill(0)
  if (transposed) {
    for (let c = 0; c < there; c++) {
      const from = (column + c) * inner + input
      for (let k = 0; k < known; k++) to[k * panelColumns + c] = data[from + k] as number
    }
    return
  }
  for (let k = 0; k < known; k++) {
    const from = (input + k) * columns + column
    for (let c = 0; c < there; c++) to[k * panelColumns + c] = data[from + c] as number
  }
}

/** How much one step of each column is, and how many steps 1 is. */
function scaleBlock(numbers: Float32Array, count: number, scales: Float32Array, inverse: Float64Array): void {
  inverse.fill(0)
  for (let i = 0; i < count * panelColumns; i += panelColumns) {
    for (let c = 0; c < panelColumns; c++) {
      const magnitude = Math.abs(numbers[i + c] as number)
      if (magnitude > (inverse[c] as number)) inverse[c] = magnitude
    }
  }
  for (let c = 0; c < panelColumns; c++) {
    const largest = inverse[c] as number
    scales[c] = largest / weightSteps
    inverse[c] = largest === 0 ? 0 : weightSteps / largest
  }
}

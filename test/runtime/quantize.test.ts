// Weights in 8 bits: each within half a step of what it was, in every form and both orientations.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { blockSize, stepsOf, zeroOf, type IntegerBytes } from '../../src/runtime/onnx/forms.ts'
import { quantizeBlocks, quantizeColumns, type Matrix } from '../../src/runtime/onnx/quantize.ts'

const seed = Number(process.env['SEED'] ?? 7)
/** The scale itself is a float32 number: a hair more than half a step is half a step. */
const halfStep = 0.5 * (1 + 1e-5)

function randomMatrix(rows: number, columns: number, transposed: boolean): Matrix {
  const random = new Random(seed)
  const data = Float32Array.from({ length: rows * columns }, () => random.normal())
  data.fill(0, 0, columns) // A row of zeros, and a column of zeros where transposed.
  return { data, rows, columns, transposed }
}

for (const transposed of [false, true]) {
  const matrix = randomMatrix(70, 131, transposed)
  const [inside, outside] = transposed ? [131, 70] : [70, 131]
  const element = (k: number, j: number): number => matrix.data[transposed ? j * 131 + k : k * 131 + j] as number
  const side = transposed ? 'read as its transpose' : 'read as it is'

  for (const form of ['signed', 'unsigned', 'paired', 'signed7'] as const satisfies readonly IntegerBytes[]) {
    test(`${form}: a matrix ${side} comes back within half a step of each column's scale`, () => {
      const { values, scales } = quantizeColumns(matrix, form)
      assert.equal(values.length, inside * outside)
      for (let j = 0; j < outside; j++) {
        let [largest, pair] = [0, 0]
        for (let k = 0; k < inside; k++) {
          const value = (values[k * outside + j] as number) - zeroOf(form)
          const error = Math.abs((scales[j] as number) * value - element(k, j))
          assert.ok(error <= halfStep * (scales[j] as number), `[${k}, ${j}] is off by ${error}, seed ${seed}`)
          pair = Math.abs(value) + (form === 'paired' && k % 2 === 1 ? pair : 0)
          largest = Math.max(largest, pair)
        }
        if (form === 'paired' && scales[j] !== 0) {
          // Rounding may take away or add one half for each of the two.
          assert.ok(largest >= stepsOf(form) - 1 && largest <= stepsOf(form) + 1, `${largest} in a pair, seed ${seed}`)
          continue
        }
        assert.equal(largest, scales[j] === 0 ? 0 : stepsOf(form), `column ${j} uses all steps, seed ${seed}`)
      }
    })
  }

  test(`blocks: a matrix ${side} comes back within half a step of each block's scale, the last block filled up`, () => {
    const { values, scales } = quantizeBlocks(matrix)
    const blocks = Math.ceil(inside / blockSize)
    assert.equal(scales.length, outside * blocks)
    for (let j = 0; j < outside; j++) {
      for (let k = 0; k < blocks * blockSize; k++) {
        const scale = scales[j * blocks + Math.floor(k / blockSize)] as number
        const value = (values[j * blocks * blockSize + k] as number) - zeroOf('blocks')
        const expected = k < inside ? element(k, j) : 0
        assert.ok(Math.abs(scale * value - expected) <= halfStep * scale, `[${k}, ${j}], seed ${seed}`)
      }
    }
  })
}

// Packed weights: unpacked again, each is within half a step of what it was, and the largest of a block is what it was.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../../src/random/random.ts'
import { blockBytes, blockPairs, panelColumns, weightSteps } from '../../../src/runtime/avx2/kernels/packing.ts'
import { packWeight, type PackedWeight } from '../../../src/runtime/avx2/packed-weights.ts'
import { normal, seed, skip } from './run-graph.ts'

const blockInner = 2 * blockPairs
/** The scale itself is rounded to float32, which counts for each step. */
const halfStep = 0.5 + weightSteps * 2 ** -24

/** The whole number that stands for a weight: a byte with a sign, and low bits in 32 bytes behind those of four pairs of inputs. */
function unpack(packed: PackedWeight, k: number, column: number): number {
  const { panelBytes, values } = packed
  const block = Math.floor(k / blockInner)
  const [pair, odd] = [Math.floor((k % blockInner) / 2), k % 2]
  const [panel, c] = [Math.floor(column / panelColumns), column % panelColumns]
  const group = panel * panelBytes + block * blockBytes(blockPairs) + blockBytes(4) * Math.floor(pair / 4)
  // Columns 0 to 3, 8 to 11, 4 to 7 and 12 to 15.
  const byte = 8 * [0, 2, 1, 3][Math.floor(c / 4)]! + 2 * (c % 4) + odd
  const upper = ((values[group + 32 * (pair % 4) + byte] as number) << 24) >> 24
  const low = (values[group + 128 + byte] as number) >> (6 - 2 * (pair % 4))
  return 4 * upper + (low & 3)
}

const scaleOf = ({ blocks, scales }: PackedWeight, k: number, column: number): number => {
  const [panel, block] = [Math.floor(column / panelColumns), Math.floor(k / blockInner)]
  return scales[(panel * blocks + block) * panelColumns + (column % panelColumns)] as number
}

for (const transposed of [false, true]) {
  for (const [inner, columns] of [
    [8, 1],
    [16, 16],
    [256, 17],
    [264, 50],
    [592, 33],
    [1040, 15],
  ] as const) {
    test(`${inner} inputs of ${columns} columns, ${transposed ? 'by column' : 'by input'}, come back within half a step`, {
      skip,
    }, () => {
      const random = new Random(seed)
      const { data } = normal(random, [inner, columns])
      const at = (k: number, column: number): number => (transposed ? column * inner + k : k * columns + column)
      const weight = (k: number, column: number): number =>
        k < inner && column < columns ? (data[at(k, column)] as number) : 0
      // Columns of all magnitudes; one without weights in its first block, and one whose largest is below 0.
      for (let k = 0; k < inner; k++) {
        for (let column = 0; column < columns; column++) data[at(k, column)]! *= 10 ** ((column % 9) - 4)
        if (k < blockInner) data[at(k, columns - 1)] = 0
      }
      data[at(inner - 1, 0)] = -20

      const packed = packWeight(data, inner, columns, transposed)
      assert.ok(packed.padded >= inner && packed.padded % 16 === 0)
      assert.equal(packed.panels, Math.ceil(columns / panelColumns))
      assert.equal(packed.values.length, packed.panels * packed.panelBytes)
      for (let column = 0; column < packed.panels * panelColumns; column++) {
        for (let first = 0; first < packed.padded; first += blockInner) {
          const scale = scaleOf(packed, first, column)
          let [largest, atLargest, most] = [0, 0, 0]
          for (let k = first; k < Math.min(first + blockInner, packed.padded); k++) {
            const [step, exact] = [unpack(packed, k, column), weight(k, column)]
            const error = Math.abs(scale * step - exact)
            assert.ok(error <= halfStep * scale, `[${k}, ${column}] is off by ${error / scale} steps, SEED=${seed}`)
            most = Math.max(most, Math.abs(step))
            if (Math.abs(exact) <= Math.abs(largest)) continue
            largest = exact
            atLargest = scale * step
          }
          assert.ok(Math.abs(atLargest - largest) <= 2 ** -23 * Math.abs(largest), `${atLargest} instead of ${largest}`)
          assert.equal(most, largest === 0 ? 0 : weightSteps, `all steps of column ${column} are used, SEED=${seed}`)
        }
      }
    })
  }
}

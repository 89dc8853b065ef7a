// The KV cache of a decode session in host arrays: what rows hold stays the same however it grows, shrinks and is copied.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { RowCache } from '../../src/runtime/onnx/row-cache.ts'
import type { CacheLayout } from '../../src/runtime/runtime.ts'

const seed = Number(process.env['SEED'] ?? 11)
const layout: CacheLayout = { layers: 2, heads: 3, headDim: 4, rowsMax: 5, positionsMax: 512 }
/** Of a layer, [heads, headDim] of one position. */
const width = layout.heads * layout.headDim

/** A cache, and beside it what each of its rows should hold: numbers of positions, [layer][keys, then values]. */
class Pair {
  readonly lengths: Int32Array
  readonly cache: RowCache
  readonly rows: number[][][]
  readonly #layout: CacheLayout
  #next = 1

  constructor(own: CacheLayout, costs: 'byCapacity' | 'byLength') {
    this.#layout = own
    this.lengths = new Int32Array(own.rowsMax)
    this.cache = new RowCache(own, this.lengths, costs)
    this.rows = Array.from({ length: own.rowsMax }, () => Array.from({ length: 2 * own.layers }, () => []))
    this.cache.reserve(1)
  }

  append(row: number, count: number): void {
    const length = this.lengths[row] as number
    this.cache.enter(row)
    this.cache.reserve(length + count)
    for (let layer = 0; layer < this.#layout.layers; layer++) {
      const present = Float32Array.from({ length: 2 * count * width }, () => this.#next++)
      this.cache.append(layer, row, present, 0, count * width, count)
      this.rows[row]?.[2 * layer]?.push(...present.subarray(0, count * width))
      this.rows[row]?.[2 * layer + 1]?.push(...present.subarray(count * width))
    }
    this.lengths[row] = length + count
  }

  copy(from: number, to: number): void {
    const until = this.lengths[from] as number
    this.cache.enter(to)
    this.cache.copy(this.cache, from, to, 0, until)
    this.rows[to] = (this.rows[from] as number[][]).map((each) => [...each])
    this.lengths[to] = until
  }

  leave(row: number): void {
    this.cache.leave(row)
    this.lengths[row] = 0
    this.rows[row] = (this.rows[row] as number[][]).map(() => [])
  }

  check(shown: string): void {
    const { layers, heads, headDim } = this.#layout
    const { capacity } = this.cache
    for (const [row, length] of this.lengths.entries()) {
      for (let layer = 0; layer < layers; layer++) {
        for (const [half, held] of this.cache.of(layer, row, 1).entries()) {
          const wanted = this.rows[row]?.[2 * layer + half] as number[]
          for (let t = 0; t < length; t++) {
            for (let h = 0; h < heads; h++) {
              const at = (h * capacity + t) * headDim
              const from = t * width + h * headDim
              assert.deepEqual([...held.subarray(at, at + headDim)], wanted.slice(from, from + headDim), shown)
            }
          }
        }
      }
    }
  }
}

for (const costs of ['byCapacity', 'byLength'] as const) {
  test(`rows keep what they hold while it grows, shrinks and is copied, attention costing ${costs}`, () => {
    for (let round = 0; round < 8; round++) {
      const random = new Random(seed + round)
      const pair = new Pair(layout, costs)
      const capacities = new Set<number>()
      for (let step = 0; step < 60; step++) {
        const row = random.below(layout.rowsMax)
        const kind = random.below(8)
        if (kind === 0) pair.leave(row)
        else if (kind === 1) pair.copy(random.below(layout.rowsMax), row)
        else {
          const room = layout.positionsMax - (pair.lengths[row] as number)
          if (room > 0) pair.append(row, 1 + random.below(Math.min(40, room)))
        }
        capacities.add(pair.cache.capacity)
      }
      pair.check(`seed ${seed + round}, grown`)
      assert.ok(costs === 'byLength' ? capacities.size === 1 : capacities.size > 2, `capacities ${[...capacities]}`)
      const leave = (longest: number): void => {
        for (let row = 0; row < layout.rowsMax; row++) if ((pair.lengths[row] as number) > longest) pair.leave(row)
      }
      const shrink = (): void => {
        for (let step = 0; step < 300; step++) pair.cache.shrink()
      }
      leave(40)
      pair.append(0, 3)
      const before = pair.cache.capacity
      shrink()
      if (costs === 'byCapacity')
        assert.ok(pair.cache.capacity < before, `${pair.cache.capacity} of ${before} positions`)
      else assert.equal(pair.cache.capacity, before)
      pair.check(`seed ${seed + round}, shrunk`)
      leave(0)
      shrink()
      assert.ok(pair.cache.capacity <= (costs === 'byCapacity' ? 64 : 0), `${pair.cache.capacity} positions for nobody`)
      pair.append(2, 50)
      pair.check(`seed ${seed + round}, filled anew`)
    }
  })
}

for (const costs of ['byCapacity', 'byLength'] as const) {
  test(`where the system promises no memory for the largest capacity, it has what is needed and grows, ${costs}`, () => {
    const pair = new Pair({ ...layout, positionsMax: 2 ** 50 }, costs)
    for (const count of [20, 30, 60, 90]) {
      pair.append(1, count)
      pair.append(3, 2)
    }
    assert.ok(pair.cache.capacity >= 200 && pair.cache.capacity < 400)
    pair.check('grown')
  })
}

// Keys and values of many rows in host arrays, each row as long as it likes, grown and shrunk with the longest.
import assert from 'node:assert/strict'
import { float32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Past } from '../runtime.ts'

/** Capacities are multiples of so many positions. */
const positionsStep = 64
/** A cache that grows is copied, and all rows wait for it: so it grows by much, and seldom. */
const growth = 1.5
/** One that shrinks is copied too, and grows again with the next long prompt: so it shrinks once none came for so many steps. */
const shrinkSteps = 256

/** Where new keys and values lie: layers of rows of heads·headDim numbers. */
export interface NewPositions {
  /** [2·layers, positions, heads·headDim], keys and values layer by layer. */
  readonly data: Float32Array
  /** Of all rows together. */
  readonly positions: number
}

/**
 * One pair of arrays a layer: keys [row, heads, headDim, position], values [row, heads, position, headDim].
 * Positions at and beyond a row's length hold anything finite; the graph masks them.
 */
export class RowCache {
  readonly layout: CacheLayout
  /** Cached positions of each row. */
  readonly lengths: Int32Array
  #capacity: number
  #keys: Float32Array[]
  #values: Float32Array[]
  /** Steps since the last that needed more than half of the capacity. */
  #roomySteps = 0

  constructor(layout: CacheLayout) {
    this.layout = layout
    this.lengths = new Int32Array(layout.rowsMax)
    this.#capacity = Math.min(positionsStep, layout.positionsMax)
    this.#keys = this.#allocate()
    this.#values = this.#allocate()
  }

  /** Forgets what the row held. */
  seed(row: number, past: Past | null): void {
    this.lengths[row] = 0
    if (past === null) return
    this.reserve(past.length)
    const { layers, heads, headDim } = this.layout
    for (let l = 0, from = 0; l < layers; l++) {
      for (let h = 0; h < heads; h++, from += past.length * headDim) {
        this.#write(l, row, h, 0, past.keys, past.values, from, past.length, headDim)
      }
    }
    this.lengths[row] = past.length
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.lengths[row] = 0
  }

  copy(from: number, to: number, since: number, until: number): void {
    assert.ok(since <= until && until <= (this.lengths[from] as number), `row ${from} to ${to}: ${since} to ${until}`)
    this.lengths[to] = until
    if (from === to) return
    const { layers, heads, headDim } = this.layout
    const capacity = this.#capacity
    for (let l = 0; l < layers; l++) {
      const [keys, values] = [this.#keys[l] as Float32Array, this.#values[l] as Float32Array]
      for (let i = 0; i < heads * headDim; i++) {
        const [source, target] = [(from * heads * headDim + i) * capacity, (to * heads * headDim + i) * capacity]
        keys.copyWithin(target + since, source + since, source + until)
      }
      for (let h = 0; h < heads; h++) {
        const [source, target] = [(from * heads + h) * capacity, (to * heads + h) * capacity]
        values.copyWithin((target + since) * headDim, (source + since) * headDim, (source + until) * headDim)
      }
    }
  }

  /** Rows from `start` on, as inputs named `${name}Key.l` and `${name}Value.l`, with `${name}Lengths`. */
  feed(feeds: Record<string, Tensor>, name: string, start: number, batch: number): void {
    const { layers, heads, headDim } = this.layout
    // A part without rows looks at no position.
    const capacity = batch === 0 ? 1 : this.#capacity
    const size = heads * headDim * capacity
    const rows = (cache: Float32Array): Float32Array => cache.subarray(start * size, (start + batch) * size)
    const lengths = this.lengths.slice(start, start + batch)
    feeds[`${name}Lengths`] = { dtype: 'int32', shape: [batch], data: lengths }
    for (let l = 0; l < layers; l++) {
      feeds[`${name}Key.${l}`] = float32(rows(this.#keys[l] as Float32Array), [batch, heads, headDim, capacity])
      feeds[`${name}Value.${l}`] = float32(rows(this.#values[l] as Float32Array), [batch, heads, capacity, headDim])
    }
  }

  /** Writes `count` positions, those from `from` on, behind what the row holds. Room must be reserved. */
  append(row: number, { data, positions }: NewPositions, from: number, count: number): void {
    const { layers, heads, headDim } = this.layout
    const stride = heads * headDim
    const layerSize = positions * stride
    const length = this.lengths[row] as number
    for (let l = 0; l < layers; l++) {
      const keys = data.subarray(2 * l * layerSize, (2 * l + 1) * layerSize)
      const values = data.subarray((2 * l + 1) * layerSize, (2 * l + 2) * layerSize)
      for (let h = 0; h < heads; h++)
        this.#write(l, row, h, length, keys, values, from * stride + h * headDim, count, stride)
    }
    this.lengths[row] = length + count
  }

  /** Makes room for `positions` in every row. */
  reserve(positions: number): void {
    if (positions > this.#capacity) this.#resize(Math.max(positions, growth * this.#capacity))
  }

  /** Attention costs by capacity, so one long row must not slow down all that come after it. */
  shrink(): void {
    const needed = Math.max(positionsStep, ...this.lengths)
    this.#roomySteps = this.#capacity > 2 * needed ? this.#roomySteps + 1 : 0
    if (this.#roomySteps <= shrinkSteps) return
    this.#roomySteps = 0
    this.#resize(needed)
  }

  dispose(): void {
    this.#keys = []
    this.#values = []
  }

  /** Copies `count` positions of one head from rows `stride` apart, beginning at `from`, to position `at`. */
  #write(
    l: number,
    row: number,
    h: number,
    at: number,
    keys: Float32Array,
    values: Float32Array,
    from: number,
    count: number,
    stride: number,
  ): void {
    const { heads, headDim } = this.layout
    const keyCache = this.#keys[l] as Float32Array
    const valueCache = this.#values[l] as Float32Array
    const base = (row * heads + h) * headDim * this.#capacity
    for (let t = 0; t < count; t++) {
      const source = from + t * stride
      for (let d = 0; d < headDim; d++) keyCache[base + d * this.#capacity + at + t] = keys[source + d] as number
      for (let d = 0; d < headDim; d++) valueCache[base + (at + t) * headDim + d] = values[source + d] as number
    }
  }

  #resize(positions: number): void {
    const [keys, values, earlier] = [this.#keys, this.#values, this.#capacity]
    this.#capacity = Math.min(Math.ceil(positions / positionsStep) * positionsStep, this.layout.positionsMax)
    this.#keys = this.#allocate()
    this.#values = this.#allocate()
    const { layers, heads, headDim } = this.layout
    for (const [row, length] of this.lengths.entries()) {
      if (length === 0) continue
      for (let l = 0; l < layers; l++) {
        // A row's keys are heads · headDim lines over positions, its values heads lines of positions · headDim.
        const resized = { row, earlier, later: this.#capacity, length }
        copyLines(keys[l] as Float32Array, this.#keys[l] as Float32Array, heads * headDim, 1, resized)
        copyLines(values[l] as Float32Array, this.#values[l] as Float32Array, heads, headDim, resized)
      }
    }
  }

  #allocate(): Float32Array[] {
    const { layers, heads, headDim, rowsMax } = this.layout
    return Array.from({ length: layers }, () => new Float32Array(rowsMax * heads * headDim * this.#capacity))
  }
}

interface Resized {
  readonly row: number
  /** Positions a line had room for, has room for, and has in use. */
  readonly earlier: number
  readonly later: number
  readonly length: number
}

/** Copies the used part of a row's lines from one cache to another whose lines have another capacity. */
function copyLines(
  from: Float32Array,
  to: Float32Array,
  lines: number,
  width: number,
  { row, earlier, later, length }: Resized,
): void {
  for (let i = row * lines; i < (row + 1) * lines; i++) {
    const start = i * earlier * width
    to.set(from.subarray(start, start + length * width), i * later * width)
  }
}

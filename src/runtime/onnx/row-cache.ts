// Keys and values of the rows of a decode session in host arrays, all with room for as many positions.
import assert from 'node:assert/strict'
import { float32, int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Past } from '../runtime.ts'

/** Capacities are multiples of so many positions. */
const positionsStep = 32
/** What a cache that grows holds is moved, and all rows wait for it: so it grows by much, and seldom. */
const growth = 1.25
/** One that shrinks is copied, and grows again with the next long prompt: so it shrinks once none came for so many steps. */
const shrinkSteps = 256

/** What makes attention slower: then the capacity is as small as it can be, or at once the largest there is. */
type Costs = 'byCapacity' | 'byLength'

/**
 * One pair of arrays a layer, keys and values alike: [row, heads, position, headDim]. Positions at and beyond a row's length
 * hold anything finite; the graph masks them. The arrays are as long as the largest capacity needs, so that growing moves rows apart in place; but
 * rows lie as close as the capacity allows, and what is behind the last one, as rows that are not here, takes no memory: its pages are never touched.
 */
export class RowCache {
  readonly layout: CacheLayout
  readonly #lengths: Int32Array
  readonly #costs: Costs
  /** 1 where a row is here. */
  readonly #here: Uint8Array
  #capacity = 0
  /** Positions of each row that the arrays have room for. */
  #room = 0
  #keys: Float32Array[] = []
  #values: Float32Array[] = []
  /** Steps since the last that needed more than half of the capacity, or any of it. */
  #roomySteps = 0

  /** `lengths` are those of all rows, kept by the session. */
  constructor(layout: CacheLayout, lengths: Int32Array, costs: Costs = 'byCapacity') {
    this.#costs = costs
    this.layout = layout
    this.#lengths = lengths
    this.#here = new Uint8Array(layout.rowsMax)
  }

  get capacity(): number {
    return this.#capacity
  }

  has(row: number): boolean {
    return this.#here[row] === 1
  }

  enter(row: number): void {
    this.#here[row] = 1
  }

  leave(row: number): void {
    this.#here[row] = 0
  }

  lengthsOf(start: number, count: number): Int32Array {
    return this.#lengths.slice(start, start + count)
  }

  /** Of `count` rows from `start` on, keys and values of a layer: [count, heads, capacity, headDim] each. */
  of(layer: number, start: number, count: number): readonly [Float32Array, Float32Array] {
    const { heads, headDim } = this.layout
    const size = heads * headDim * this.#capacity
    const rows = (cache: Float32Array[]): Float32Array =>
      (cache[layer] as Float32Array).subarray(start * size, (start + count) * size)
    return [rows(this.#keys), rows(this.#values)]
  }

  seed(row: number, past: Past): void {
    const { heads, headDim, layers } = this.layout
    const line = past.length * headDim
    for (let l = 0, from = 0; l < layers; l++) {
      for (let h = 0; h < heads; h++, from += line) {
        const to = (row * heads + h) * this.#capacity * headDim
        this.#keys[l]?.set(past.keys.subarray(from, from + line), to)
        this.#values[l]?.set(past.values.subarray(from, from + line), to)
      }
    }
  }

  /** Puts `count` positions of a layer, [heads, headDim] each, behind those of the row: keys lie from `keysAt` on. */
  append(layer: number, row: number, present: Float32Array, keysAt: number, valuesAt: number, count: number): void {
    this.#write(this.#keys[layer] as Float32Array, row, present, keysAt, count)
    this.#write(this.#values[layer] as Float32Array, row, present, valuesAt, count)
  }

  /** The same of `made`, arrays of [heads, width, headDim] one after the other: the keys are the one counted `keysAt`. */
  appendHeads(
    layer: number,
    row: number,
    made: Float32Array,
    { keysAt, valuesAt, width, count }: { keysAt: number; valuesAt: number; width: number; count: number },
  ): void {
    const { heads, headDim } = this.layout
    const length = this.#lengths[row] as number
    const put = (cache: Float32Array[], at: number): void => {
      for (let h = 0; h < heads; h++) {
        const from = (at * heads + h) * width * headDim
        const to = ((row * heads + h) * this.#capacity + length) * headDim
        cache[layer]?.set(made.subarray(from, from + count * headDim), to)
      }
    }
    put(this.#keys, keysAt)
    put(this.#values, valuesAt)
  }

  /** Copies positions from `since` to below `until` of row `from`, of this cache or another, to row `to`. */
  copy(source: RowCache, from: number, to: number, since: number, until: number): void {
    const { heads, headDim } = this.layout
    const [there, here] = [source.#capacity, this.#capacity]
    assert.ok(until <= there && until <= here)
    const copy = (a: Float32Array, b: Float32Array): void => {
      for (let h = 0; h < heads; h++) {
        const [first, target] = [(from * heads + h) * there, (to * heads + h) * here]
        b.set(a.subarray((first + since) * headDim, (first + until) * headDim), (target + since) * headDim)
      }
    }
    source.#keys.forEach((each, l) => copy(each, this.#keys[l] as Float32Array))
    source.#values.forEach((each, l) => copy(each, this.#values[l] as Float32Array))
  }

  /** Makes room for `positions` in every row. */
  reserve(positions: number): void {
    if (positions <= this.#capacity) return
    this.#resize(positions, this.#costs === 'byLength' ? this.layout.positionsMax : growth * this.#capacity)
  }

  /**
   * Where attention costs by capacity one long row must not slow down all that come after it; where it does not, memory is given back once no
   * row is here. To be called once a step.
   */
  shrink(): void {
    let needed = 0
    for (const [row, length] of this.#lengths.entries()) if (this.has(row)) needed = Math.max(needed, length)
    const byCapacity = this.#costs === 'byCapacity'
    const isRoomy = byCapacity
      ? this.#capacity > 2 * Math.max(positionsStep, needed)
      : this.#capacity > 0 && needed === 0
    this.#roomySteps = isRoomy ? this.#roomySteps + 1 : 0
    if (this.#roomySteps <= shrinkSteps) return
    this.#roomySteps = 0
    if (byCapacity) this.#resize(Math.max(1, needed))
    else this.clear()
  }

  clear(): void {
    this.#capacity = 0
    this.#room = 0
    this.#keys = []
    this.#values = []
  }

  #write(cache: Float32Array, row: number, present: Float32Array, from: number, count: number): void {
    const { heads, headDim } = this.layout
    const length = this.#lengths[row] as number
    let source = from
    for (let t = 0; t < count; t++) {
      for (let h = 0; h < heads; h++) {
        const target = ((row * heads + h) * this.#capacity + length + t) * headDim
        // A loop: a head's numbers are few, and a view to copy them by would cost more.
        for (let d = 0; d < headDim; d++) cache[target + d] = present[source++] as number
      }
    }
  }

  /** To room for `needed` positions, and for `wanted` where there is memory for them. */
  #resize(needed: number, wanted = needed): void {
    const { positionsMax } = this.layout
    const earlier = this.#capacity
    this.#capacity = capacityFor(Math.max(needed, wanted), positionsMax)
    if (earlier < this.#capacity && this.#capacity <= this.#room) {
      for (const each of [...this.#keys, ...this.#values]) this.#moveLines(each, earlier, each)
      return
    }
    const [keys, values] = [this.#keys, this.#values]
    // The system may promise no memory for the largest capacity.
    if (!this.#allocate(positionsMax)) {
      this.#capacity = capacityFor(Math.max(needed, growth * earlier), positionsMax)
      if (!this.#allocate(this.#capacity)) throw new RangeError(`no memory for ${this.#capacity} positions of each row`)
    }
    keys.forEach((each, l) => this.#moveLines(each, earlier, this.#keys[l] as Float32Array))
    values.forEach((each, l) => this.#moveLines(each, earlier, this.#values[l] as Float32Array))
  }

  /** What rows hold, from where it lay with the capacity `earlier`. Within one array from the last line on: each moves away from all before it. */
  #moveLines(from: Float32Array, earlier: number, to: Float32Array): void {
    const { heads, headDim } = this.layout
    for (let row = this.#lengths.length - 1; row >= 0; row--) {
      const used = this.has(row) ? (this.#lengths[row] as number) * headDim : 0
      if (used === 0) continue
      for (let line = (row + 1) * heads - 1; line >= row * heads; line--) {
        const [start, target] = [line * earlier * headDim, line * this.#capacity * headDim]
        if (from === to) to.copyWithin(target, start, start + used)
        else to.set(from.subarray(start, start + used), target)
      }
    }
  }

  /** New arrays with room for so many positions of each row; false: there is no such memory. */
  #allocate(room: number): boolean {
    const { layers, heads, headDim, rowsMax } = this.layout
    const arrays = (): Float32Array[] =>
      Array.from({ length: layers }, () => new Float32Array(rowsMax * heads * headDim * room))
    try {
      ;[this.#keys, this.#values] = [arrays(), arrays()]
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return false
    }
    this.#room = room
    return true
  }
}

const capacityFor = (positions: number, most: number): number =>
  Math.min(Math.ceil(positions / positionsStep) * positionsStep, most)

/** Rows from `start` on, as inputs named `${name}Key.l` and `${name}Value.l`, with `${name}Lengths`. */
export function feedRows(
  feeds: Record<string, Tensor>,
  name: string,
  cache: RowCache,
  start: number,
  batch: number,
): void {
  const { layers, heads, headDim } = cache.layout
  feeds[`${name}Lengths`] = int32(cache.lengthsOf(start, batch), [batch])
  // Without rows nobody looks at any position.
  const shape = [batch, heads, batch === 0 ? 1 : cache.capacity, headDim]
  for (let l = 0; l < layers; l++) {
    const [keys, values] = cache.of(l, start, batch)
    feeds[`${name}Key.${l}`] = float32(keys, shape)
    feeds[`${name}Value.${l}`] = float32(values, shape)
  }
}

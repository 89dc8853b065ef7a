// Decoding on onnxruntime: the KV cache lives in host arrays and is an input only, never copied through the graph.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { float32, int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Past, Program } from '../runtime.ts'

/** The cache grows by so many positions at a time. */
const positionsStep = 64

/**
 * One pair of arrays a layer: keys [row, heads, headDim, position], values [row, heads, position, headDim].
 * Positions at and beyond a row's length hold anything finite; the graph masks them.
 */
export class OnnxDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  readonly #program: Program
  #capacity: number
  #keys: Float32Array[]
  #values: Float32Array[]

  constructor(program: Program, forward: Graph, layout: CacheLayout) {
    this.#program = program
    this.layout = layout
    this.vocabulary = forward.outputs['logits']?.shape[1] as number
    this.lengths = new Int32Array(layout.rowsMax)
    this.#capacity = Math.min(positionsStep, layout.positionsMax)
    this.#keys = this.#allocate()
    this.#values = this.#allocate()
  }

  seed(row: number, past: Past | null): void {
    this.lengths[row] = 0
    if (past === null) return
    this.#reserve(past.length)
    const { layers, heads, headDim } = this.layout
    for (let l = 0, from = 0; l < layers; l++) {
      for (let h = 0; h < heads; h++, from += past.length * headDim) {
        this.#write(l, row, h, 0, past.keys, past.values, from, past.length, headDim)
      }
    }
    this.lengths[row] = past.length
  }

  async extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    const batch = tokens.length
    const width = Math.max(...tokens.map((row) => row.length))
    assert.ok(tokens.every((row) => row.length > 0) && start + batch <= this.layout.rowsMax)
    const ids = new Int32Array(batch * width)
    const positions = new Int32Array(batch * width)
    tokens.forEach((row, b) => {
      const length = this.lengths[start + b] as number
      assert.ok(
        length + row.length <= this.layout.positionsMax,
        `row ${start + b}: ${length} + ${row.length} positions of ${this.layout.positionsMax}`,
      )
      ids.set(row, b * width)
      // Padding behind a row's end is never looked at, but its position must exist.
      for (let t = 0; t < width; t++) positions[b * width + t] = Math.min(length + t, this.layout.positionsMax - 1)
    })
    const last = Int32Array.from(tokens, (row, b) => b * width + row.length - 1)

    const outputs = await this.#program.run({
      ...this.#cacheFeeds(start, batch),
      tokens: int32(ids, [batch, width]),
      positions: int32(positions, [batch, width]),
      rows: int32(last, [batch]),
      pastLengths: int32(this.lengths.slice(start, start + batch), [batch]),
    })
    this.#append(
      start,
      tokens.map((row) => row.length),
      width,
      outputs['present'] as Tensor,
    )
    return (outputs['logits'] as Tensor).data as Float32Array
  }

  trim(rows: number): void {
    this.lengths.fill(0, rows)
    this.#shrink()
  }

  move(from: number, to: number): void {
    const { heads, headDim } = this.layout
    const size = heads * headDim * this.#capacity
    for (const cache of [...this.#keys, ...this.#values]) cache.copyWithin(to * size, from * size, (from + 1) * size)
    this.lengths[to] = this.lengths[from] as number
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.#keys = []
    this.#values = []
  }

  #cacheFeeds(start: number, batch: number): Record<string, Tensor> {
    const { layers, heads, headDim } = this.layout
    const size = heads * headDim * this.#capacity
    const feeds: Record<string, Tensor> = {}
    for (let l = 0; l < layers; l++) {
      const rows = (cache: Float32Array): Float32Array => cache.subarray(start * size, (start + batch) * size)
      feeds[`pastKey.${l}`] = float32(rows(this.#keys[l] as Float32Array), [batch, heads, headDim, this.#capacity])
      feeds[`pastValue.${l}`] = float32(rows(this.#values[l] as Float32Array), [batch, heads, this.#capacity, headDim])
    }
    return feeds
  }

  /** Writes the first `counts[i]` new positions of each row; present is [2·layers, batch, width, heads·headDim]. */
  #append(start: number, counts: readonly number[], width: number, present: Tensor): void {
    const { layers, heads, headDim } = this.layout
    const stride = heads * headDim
    this.#reserve(Math.max(...counts.map((count, b) => (this.lengths[start + b] as number) + count)))
    const data = present.data as Float32Array
    const layerSize = counts.length * width * stride
    for (let l = 0; l < layers; l++) {
      const keys = data.subarray(2 * l * layerSize, (2 * l + 1) * layerSize)
      const values = data.subarray((2 * l + 1) * layerSize, (2 * l + 2) * layerSize)
      counts.forEach((count, b) => {
        const length = this.lengths[start + b] as number
        for (let h = 0; h < heads; h++) {
          this.#write(l, start + b, h, length, keys, values, b * width * stride + h * headDim, count, stride)
        }
      })
    }
    counts.forEach((count, b) => {
      this.lengths[start + b] = (this.lengths[start + b] as number) + count
    })
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

  /** Makes room for `positions` in every row. */
  #reserve(positions: number): void {
    if (positions > this.#capacity) this.#resize(positions)
  }

  /** Attention costs by capacity, so one long row must not slow down all that come after it. */
  #shrink(): void {
    const needed = Math.max(positionsStep, ...this.lengths)
    if (this.#capacity > 2 * needed) this.#resize(needed)
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

// Decoding on onnxruntime: the KV cache lives in host arrays and is an input only, never copied through the graph.
import assert from 'node:assert/strict'
import { inputsOf, type Graph } from '../../graph/graph.ts'
import { float32, int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Past, Program, SessionPart } from '../runtime.ts'

/** Capacities are multiples of so many positions. */
const positionsStep = 32
/** A cache that grows is copied, and all rows wait for it: so it grows by much, and seldom. */
const growth = 1.25
/** One that shrinks is copied too, and grows again with the next long prompt: so it shrinks once none came for so many steps. */
const shrinkSteps = 256

/**
 * One pair of arrays a layer, both [row, heads, position, headDim]: what is new is written in one piece.
 * Positions at and beyond a row's length hold anything finite; the graph masks them.
 */
export class OnnxDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  readonly #program: Program
  /** Parts that the program takes. */
  readonly #segments: number
  #capacity: number
  #keys: Float32Array[]
  #values: Float32Array[]
  /** Steps since the last that needed more than half of the capacity. */
  #roomySteps = 0

  constructor(program: Program, forward: Graph, layout: CacheLayout) {
    this.#program = program
    this.#segments = segmentsOf(forward)
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

  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    assert.ok(parts.length >= 1 && parts.length <= this.#segments)
    this.#shrink()
    const feeds: Record<string, Tensor> = {}
    const last: number[] = []
    const widths: number[] = []
    let base = 0
    for (let s = 0; s < this.#segments; s++) {
      const part = parts[s] ?? { start: 0, tokens: [] }
      const width = Math.max(1, ...part.tokens.map((row) => row.length))
      this.#feedPart(feeds, this.#segments === 1 ? '' : `${s}.`, part, width)
      for (const [b, row] of part.tokens.entries()) last.push(base + b * width + row.length - 1)
      widths.push(width)
      base += part.tokens.length * width
    }
    feeds['rows'] = int32(Int32Array.from(last), [last.length])
    const outputs = await this.#program.run(feeds)
    this.#append(parts, widths, base, (outputs['present'] as Tensor).data as Float32Array)
    return (outputs['logits'] as Tensor).data as Float32Array
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
      for (let h = 0; h < heads; h++) {
        const [source, target] = [(from * heads + h) * capacity, (to * heads + h) * capacity]
        for (const cache of [keys, values])
          cache.copyWithin((target + since) * headDim, (source + since) * headDim, (source + until) * headDim)
      }
    }
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.#keys = []
    this.#values = []
  }

  #feedPart(feeds: Record<string, Tensor>, name: string, { start, tokens }: SessionPart, width: number): void {
    const batch = tokens.length
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
    feeds[`${name}tokens`] = int32(ids, [batch, width])
    feeds[`${name}positions`] = int32(positions, [batch, width])
    feeds[`${name}pastLengths`] = int32(this.lengths.slice(start, start + batch), [batch])
    const { layers, heads, headDim } = this.layout
    // A part without rows looks at no position.
    const capacity = batch === 0 ? 1 : this.#capacity
    const size = heads * headDim * capacity
    const rows = (cache: Float32Array): Float32Array => cache.subarray(start * size, (start + batch) * size)
    for (let l = 0; l < layers; l++) {
      feeds[`${name}pastKey.${l}`] = float32(rows(this.#keys[l] as Float32Array), [batch, heads, capacity, headDim])
      feeds[`${name}pastValue.${l}`] = float32(rows(this.#values[l] as Float32Array), [batch, heads, capacity, headDim])
    }
  }

  /** Writes the new positions of each row; `present` is [2·layers, positions of all parts, heads·headDim]. */
  #append(parts: readonly SessionPart[], widths: readonly number[], total: number, present: Float32Array): void {
    const { layers, heads, headDim } = this.layout
    const stride = heads * headDim
    const after = ({ start, tokens }: SessionPart): number[] =>
      tokens.map((row, b) => (this.lengths[start + b] as number) + row.length)
    this.#reserve(Math.max(...parts.flatMap(after)))
    const layerSize = total * stride
    for (let l = 0; l < layers; l++) {
      const keys = present.subarray(2 * l * layerSize, (2 * l + 1) * layerSize)
      const values = present.subarray((2 * l + 1) * layerSize, (2 * l + 2) * layerSize)
      let base = 0
      parts.forEach(({ start, tokens }, s) => {
        const width = widths[s] as number
        tokens.forEach((row, b) => {
          const length = this.lengths[start + b] as number
          const from = (base + b * width) * stride
          for (let h = 0; h < heads; h++) {
            this.#write(l, start + b, h, length, keys, values, from + h * headDim, row.length, stride)
          }
        })
        base += tokens.length * width
      })
    }
    for (const part of parts) this.lengths.set(after(part), part.start)
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
      const [source, target] = [from + t * stride, base + (at + t) * headDim]
      for (let d = 0; d < headDim; d++) keyCache[target + d] = keys[source + d] as number
      for (let d = 0; d < headDim; d++) valueCache[target + d] = values[source + d] as number
    }
  }

  /** Makes room for `positions` in every row. */
  #reserve(positions: number): void {
    if (positions > this.#capacity) this.#resize(Math.max(positions, growth * this.#capacity))
  }

  /** Attention costs by capacity, so one long row must not slow down all that come after it. */
  #shrink(): void {
    const needed = Math.max(positionsStep, ...this.lengths)
    this.#roomySteps = this.#capacity > 2 * needed ? this.#roomySteps + 1 : 0
    if (this.#roomySteps <= shrinkSteps) return
    this.#roomySteps = 0
    this.#resize(needed)
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
        const resized = { row, earlier, later: this.#capacity, length }
        copyLines(keys[l] as Float32Array, this.#keys[l] as Float32Array, heads, headDim, resized)
        copyLines(values[l] as Float32Array, this.#values[l] as Float32Array, heads, headDim, resized)
      }
    }
  }

  #allocate(): Float32Array[] {
    const { layers, heads, headDim, rowsMax } = this.layout
    return Array.from({ length: layers }, () => new Float32Array(rowsMax * heads * headDim * this.#capacity))
  }
}

function segmentsOf(forward: Graph): number {
  return inputsOf(forward).filter(({ attributes }) => /(^|\.)tokens$/.test(attributes.name)).length
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

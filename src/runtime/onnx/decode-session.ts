// Decoding on onnxruntime: the KV cache lives in host arrays and is an input only, never copied through the graph.
import assert from 'node:assert/strict'
import { inputsOf, type Graph } from '../../graph/graph.ts'
import { int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Past, Program, SessionPart, SourceRow } from '../runtime.ts'
import { RowCache } from './row-cache.ts'
import type { SourceReader } from './source-reader.ts'

export class OnnxDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly #program: Program
  /** null: the model has no encoder. */
  readonly #reader: SourceReader | null
  /** Parts that the program takes. */
  readonly #segments: number
  readonly #cache: RowCache
  /** By how much the position of a row's next token is less than its length. */
  readonly #shifts: Int32Array

  constructor(program: Program, forward: Graph, layout: CacheLayout, reader: SourceReader | null = null) {
    this.#program = program
    this.#reader = reader
    this.#segments = segmentsOf(forward)
    this.layout = layout
    this.vocabulary = forward.outputs['logits']?.shape[1] as number
    this.#cache = new RowCache(layout)
    this.#shifts = new Int32Array(layout.rowsMax)
  }

  get lengths(): Int32Array {
    return this.#cache.lengths
  }

  seed(row: number, past: Past | null): void {
    this.#cache.seed(row, past)
    this.#shifts[row] = past === null ? 0 : past.length - (past.textStart ?? past.length)
  }

  read(rows: readonly SourceRow[]): Promise<void> {
    assert.ok(this.#reader !== null, 'the model has no encoder')
    return this.#reader.read(rows)
  }

  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    assert.ok(parts.length >= 1 && parts.length <= this.#segments)
    this.#cache.shrink()
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
    this.#cache.release(rows)
    this.#reader?.cache.release(rows)
  }

  copy(from: number, to: number, since: number, until: number): void {
    this.#cache.copy(from, to, since, until)
    if (from === to) return
    this.#shifts[to] = this.#shifts[from] as number
    // Rows that begin alike have read the same.
    const sources = this.#reader?.cache
    if (sources !== undefined && since === 0) sources.copy(from, to, 0, sources.lengths[from] as number)
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    await this.#reader?.dispose()
    this.#cache.dispose()
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
      const first = length - (this.#shifts[start + b] as number)
      // Padding behind a row's end is never looked at, but its position must exist.
      for (let t = 0; t < width; t++) positions[b * width + t] = Math.min(first + t, this.layout.positionsMax - 1)
    })
    feeds[`${name}tokens`] = int32(ids, [batch, width])
    feeds[`${name}positions`] = int32(positions, [batch, width])
    this.#cache.feed(feeds, `${name}past`, start, batch)
    this.#reader?.cache.feed(feeds, `${name}cross`, start, batch)
  }

  /** Writes the new positions of each row; `present` is [2·layers, positions of all parts, heads·headDim]. */
  #append(parts: readonly SessionPart[], widths: readonly number[], total: number, present: Float32Array): void {
    const after = ({ start, tokens }: SessionPart): number[] =>
      tokens.map((row, b) => (this.lengths[start + b] as number) + row.length)
    this.#cache.reserve(Math.max(...parts.flatMap(after)))
    const made = { data: present, positions: total }
    let base = 0
    parts.forEach(({ start, tokens }, s) => {
      const width = widths[s] as number
      tokens.forEach((row, b) => this.#cache.append(start + b, made, base + b * width, row.length))
      base += tokens.length * width
    })
  }
}

function segmentsOf(forward: Graph): number {
  return inputsOf(forward).filter(({ attributes }) => /(^|\.)tokens$/.test(attributes.name)).length
}

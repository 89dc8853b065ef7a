// The encoder at work: sources of many rows in one pass, and what the decoder's cross-attention will see of them.
import assert from 'node:assert/strict'
import { inputsOf, type Graph } from '../../graph/graph.ts'
import { float32, int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Past, Program, RowSource, SourceRow } from '../runtime.ts'
import { RowCache } from './row-cache.ts'

export class SourceReader {
  /** Keys and values of prefix and source, by row. */
  readonly cache: RowCache
  readonly #program: Program
  /** Of the encoder. */
  readonly #layers: number

  /** `encoder` is the model's `sourceGraph`. */
  constructor(program: Program, encoder: Graph, layout: CacheLayout) {
    assert.ok(layout.sourceMax !== undefined, 'a model with an encoder has room for sources')
    this.#program = program
    this.#layers = inputsOf(encoder).filter(({ attributes }) => attributes.name.startsWith('pastKey.')).length
    this.cache = new RowCache({ ...layout, positionsMax: layout.sourceMax })
  }

  /** Rows with one and the same source are read once, in the place of the first of them. */
  async read(rows: readonly SourceRow[]): Promise<void> {
    const firsts = new Map<RowSource, number>()
    for (const { row, source } of rows) if (!firsts.has(source)) firsts.set(source, row)
    const sources = [...firsts.keys()]
    const width = Math.max(...sources.map(({ tokens }) => tokens.length))
    const { cross } = await this.#program.run(this.#feeds(sources, width))
    this.cache.shrink()
    this.cache.reserve(Math.max(...sources.map(({ cross: past, tokens }) => (past?.length ?? 0) + tokens.length)))
    const made = { data: (cross as Tensor).data as Float32Array, positions: sources.length * width }
    for (const [s, source] of sources.entries()) {
      const row = firsts.get(source) as number
      this.cache.seed(row, source.cross)
      this.cache.append(row, made, s * width, source.tokens.length)
    }
    for (const { row, source } of rows) {
      const first = firsts.get(source) as number
      if (row !== first) this.cache.copy(first, row, 0, this.cache.lengths[first] as number)
    }
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.cache.dispose()
  }

  #feeds(sources: readonly RowSource[], width: number): Record<string, Tensor> {
    const batch = sources.length
    const tokens = new Int32Array(batch * width)
    sources.forEach((source, b) => tokens.set(source.tokens, b * width))
    const pasts = sources.map(({ encoder }) => encoder)
    return {
      tokens: int32(tokens, [batch, width]),
      positions: int32(
        tokens.map((_, i) => i % width),
        [batch, width],
      ),
      lengths: int32(
        Int32Array.from(sources, (source) => source.tokens.length),
        [batch],
      ),
      pastLengths: int32(
        Int32Array.from(pasts, (past) => past?.length ?? 0),
        [batch],
      ),
      ...this.#pastFeeds(pasts),
    }
  }

  /** Each row's own, padded to the longest. */
  #pastFeeds(pasts: readonly (Past | null)[]): Record<string, Tensor> {
    const { heads, headDim } = this.cache.layout
    const longest = Math.max(1, ...pasts.map((past) => past?.length ?? 0))
    const size = heads * headDim * longest
    const feeds: Record<string, Tensor> = {}
    for (let l = 0; l < this.#layers; l++) {
      const [keys, values] = [new Float32Array(pasts.length * size), new Float32Array(pasts.length * size)]
      for (const [b, past] of pasts.entries()) {
        if (past === null) continue
        for (let h = 0; h < heads; h++) {
          const from = (l * heads + h) * past.length * headDim
          const to = b * size + h * headDim * longest
          values.set(past.values.subarray(from, from + past.length * headDim), to)
          for (let p = 0; p < past.length; p++)
            for (let d = 0; d < headDim; d++) keys[to + d * longest + p] = past.keys[from + p * headDim + d] as number
        }
      }
      feeds[`pastKey.${l}`] = float32(keys, [pasts.length, heads, headDim, longest])
      feeds[`pastValue.${l}`] = float32(values, [pasts.length, heads, longest, headDim])
    }
    return feeds
  }
}

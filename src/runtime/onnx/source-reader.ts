// The encoder at work: sources of many rows in one pass, and what the decoder's cross-attention will see of them.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Program, SourceRow } from '../runtime.ts'
import { encoderLayers, longestSource, rowsBySource, sourceFeeds } from '../source-feeds.ts'
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
    this.#layers = encoderLayers(encoder)
    this.cache = new RowCache({ ...layout, positionsMax: layout.sourceMax })
  }

  /** Rows with one and the same source are read once, in the place of the first of them. */
  async read(rows: readonly SourceRow[]): Promise<void> {
    const bySource = rowsBySource(rows)
    const sources = [...bySource.keys()]
    const { cross } = await this.#program.run(sourceFeeds(sources, this.#layers, this.cache.layout))
    this.cache.shrink()
    this.cache.reserve(Math.max(...sources.map(({ cross: past, tokens }) => (past?.length ?? 0) + tokens.length)))
    const width = longestSource(sources)
    const made = { data: (cross as Tensor).data as Float32Array, positions: sources.length * width }
    for (const [s, source] of sources.entries()) {
      const [first, ...others] = bySource.get(source) as readonly [number, ...number[]]
      this.cache.seed(first, source.cross)
      this.cache.append(first, made, s * width, source.tokens.length)
      for (const row of others) this.cache.copy(first, row, 0, this.cache.lengths[first] as number)
    }
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.cache.dispose()
  }
}

// The encoder at work: sources of many rows in one pass, and what the decoder's cross-attention will see of them.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Program, RowSource, SourceRow } from '../runtime.ts'
import { encoderLayers, type KeyOrder, longestSource, rowsBySource, sourceFeeds } from '../source-feeds.ts'
import { RowCache } from './row-cache.ts'

/** Of all sources of a pass, padded: so few that what is between two layers stays in the processor's caches. */
const passPositionsMax = 1024

export class SourceReader {
  /** Keys and values of prefix and source, by row. */
  readonly cache: RowCache
  readonly #lengths: Int32Array
  readonly #program: Program
  /** Of the encoder. */
  readonly #layers: number
  readonly #keys: KeyOrder

  /** `program` computes `encoder`, the model's `sourceGraph`, its output by head (`keys-by-position.ts`), of past keys in the order of `keys`. */
  constructor(program: Program, encoder: Graph, layout: CacheLayout, keys: KeyOrder = 'byNumber') {
    const { rowsMax, sourceMax } = layout
    assert.ok(sourceMax !== undefined, 'a model with an encoder has room for sources')
    this.#program = program
    this.#keys = keys
    this.#layers = encoderLayers(encoder)
    this.#lengths = new Int32Array(rowsMax)
    this.cache = new RowCache({ ...layout, positionsMax: sourceMax }, this.#lengths)
    this.cache.reserve(1)
    for (let row = 0; row < rowsMax; row++) this.cache.enter(row)
  }

  /** Rows with one and the same source are read once, in the place of the first of them. */
  async read(rows: readonly SourceRow[]): Promise<void> {
    const bySource = rowsBySource(rows)
    const sources = [...bySource.keys()]
    this.release(rows.map(({ row }) => row))
    this.cache.shrink()
    this.cache.reserve(Math.max(...sources.map(({ cross: past, tokens }) => (past?.length ?? 0) + tokens.length)))
    for (const pass of passesOf(sources)) await this.#readPass(pass, bySource)
  }

  async #readPass(sources: readonly RowSource[], bySource: ReadonlyMap<RowSource, readonly number[]>): Promise<void> {
    const { cross } = await this.#program.run(sourceFeeds(sources, this.#layers, this.cache.layout, this.#keys))
    const width = longestSource(sources)
    const made = (cross as Tensor).data as Float32Array
    for (const [s, source] of sources.entries()) {
      const [first, ...others] = bySource.get(source) as readonly [number, ...number[]]
      if (source.cross !== null) this.cache.seed(first, source.cross)
      this.#lengths[first] = source.cross?.length ?? 0
      const { length } = source.tokens
      for (let l = 0; l < this.cache.layout.layers; l++) {
        const at = (of: number): number => (2 * l + of) * sources.length + s
        this.cache.appendHeads(l, first, made, { keysAt: at(0), valuesAt: at(1), width, count: length })
      }
      this.#lengths[first] += length
      for (const row of others) this.copy(first, row)
    }
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.#lengths[row] = 0
  }

  copy(from: number, to: number): void {
    const length = this.#lengths[from] as number
    this.cache.copy(this.cache, from, to, 0, length)
    this.#lengths[to] = length
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.cache.clear()
  }
}

/** Sources of nearly equal length together: all of a pass are padded to its longest. */
export function passesOf(sources: readonly RowSource[]): readonly (readonly RowSource[])[] {
  const passes: RowSource[][] = []
  for (const source of sources.toSorted((a, b) => b.tokens.length - a.tokens.length)) {
    const pass = passes.at(-1)
    const width = pass?.[0]?.tokens.length ?? 0
    if (pass !== undefined && (pass.length + 1) * width <= passPositionsMax) pass.push(source)
    else passes.push([source])
  }
  return passes
}

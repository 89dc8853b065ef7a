// The encoder on the device; what cross-attention will see goes from its output into the cache of sources, and never to the host.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { CacheLayout, SourceRow } from '../runtime.ts'
import { encoderLayers, longestSource, rowsBySource, sourceFeeds } from '../source-feeds.ts'
import { viewOf, type Device, type DeviceTensor } from './device.ts'
import type { PastStore } from './past-store.ts'
import { feedsOf, type WebgpuProgram } from './program.ts'
import { WebgpuRowCache } from './row-cache.ts'

export class WebgpuSourceReader {
  /** Keys and values of prefix and source, by row. */
  readonly cache: WebgpuRowCache
  readonly #program: WebgpuProgram
  /** Of the encoder. */
  readonly #layers: number

  /** `encoder` is the model's `sourceGraph`, `program` computes it and leaves its output on the device. */
  constructor(device: Device, pasts: PastStore, program: WebgpuProgram, encoder: Graph, layout: CacheLayout) {
    assert.ok(layout.sourceMax !== undefined, 'a model with an encoder has room for sources')
    this.#program = program
    this.#layers = encoderLayers(encoder)
    this.cache = new WebgpuRowCache(device, pasts, { ...layout, positionsMax: layout.sourceMax })
  }

  /** Rows with one and the same source are read once, in the place of the first of them. */
  async read(rows: readonly SourceRow[]): Promise<void> {
    const bySource = rowsBySource(rows)
    const sources = [...bySource.keys()]
    const firsts = sources.map((source) => (bySource.get(source) as readonly number[])[0] as number)
    sources.forEach((source, s) => this.cache.seed(firsts[s] as number, source.cross))
    await this.cache.shrink()
    await this.cache.settle(Math.max(...sources.map(({ cross, tokens }) => (cross?.length ?? 0) + tokens.length)))
    const outputs = await this.#program.runOnDevice(feedsOf(sourceFeeds(sources, this.#layers, this.cache.layout)))
    const cross = outputs['cross'] as DeviceTensor
    const width = longestSource(sources)
    const { layers, heads, headDim } = this.cache.layout
    const tensors = viewOf(cross, [2 * layers, sources.length * width, heads * headDim])
    const counts = sources.map(({ tokens }) => tokens.length)
    await this.cache.append({ rows: firsts, width, counts, tensors })
    cross.dispose()
    for (const [s, source] of sources.entries()) {
      const [first, ...others] = bySource.get(source) as readonly [number, ...number[]]
      for (const row of others) this.cache.copy(first, row, 0, this.cache.lengths[first] as number)
      assert.equal(first, firsts[s])
    }
  }

  async dispose(): Promise<void> {
    this.cache.dispose()
    await this.#program.dispose()
  }
}

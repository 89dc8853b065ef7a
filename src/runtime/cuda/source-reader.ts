// The encoder on the device; what cross-attention will see passes through the host once, on its way into the cache.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, Past, RowSource, SourceRow } from '../runtime.ts'
import { encoderLayers, longestSource, rowsBySource, sourceFeeds } from '../source-feeds.ts'
import type { Device } from './device.ts'
import type { CudaProgram } from './program.ts'
import { CudaRowCache } from './row-cache.ts'
import type { Form } from './steps.ts'

export class CudaSourceReader {
  /** Keys and values of prefix and source, by row. */
  readonly cache: CudaRowCache
  readonly #program: CudaProgram
  /** Of the encoder. */
  readonly #layers: number

  /** `encoder` is the model's `sourceGraph`. */
  constructor(device: Device, program: CudaProgram, encoder: Graph, layout: CacheLayout, form: Form) {
    assert.ok(layout.sourceMax !== undefined, 'a model with an encoder has room for sources')
    this.#program = program
    this.#layers = encoderLayers(encoder)
    this.cache = new CudaRowCache(device, { ...layout, positionsMax: layout.sourceMax }, form, 'cache of sources')
  }

  /** Rows with one and the same source are read once, in the place of the first of them. */
  async read(rows: readonly SourceRow[]): Promise<void> {
    const bySource = rowsBySource(rows)
    const sources = [...bySource.keys()]
    const { cross } = await this.#program.run(sourceFeeds(sources, this.#layers, this.cache.layout))
    const positions = { each: longestSource(sources), all: sources.length * longestSource(sources) }
    for (const [s, source] of sources.entries()) {
      const [first, ...others] = bySource.get(source) as readonly [number, ...number[]]
      const made = { data: (cross as Tensor).data as Float32Array, positions: positions.all, from: s * positions.each }
      this.cache.seed(first, pastWith(source, made, this.cache.layout))
      for (const row of others) this.cache.copy(first, row, 0, this.cache.lengths[first] as number)
    }
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    this.cache.dispose()
  }
}

interface Made {
  /** [2·layers, positions, heads·headDim], keys and values layer by layer. */
  readonly data: Float32Array
  readonly positions: number
  /** The first position of the source. */
  readonly from: number
}

/** The prefix and behind it what the encoder made, as one past. */
function pastWith({ tokens, cross }: RowSource, made: Made, { layers, heads, headDim }: CacheLayout): Past {
  const before = cross?.length ?? 0
  const length = before + tokens.length
  const [keys, values] = [0, 1].map((s) => {
    const out = new Float32Array(layers * heads * length * headDim)
    const given = cross === null ? null : s === 0 ? cross.keys : cross.values
    for (let l = 0; l < layers; l++) {
      for (let h = 0; h < heads; h++) {
        const head = l * heads + h
        const to = head * length * headDim
        if (given !== null) out.set(given.subarray(head * before * headDim, (head + 1) * before * headDim), to)
        for (let t = 0; t < tokens.length; t++) {
          const from = (((2 * l + s) * made.positions + made.from + t) * heads + h) * headDim
          out.set(made.data.subarray(from, from + headDim), to + (before + t) * headDim)
        }
      }
    }
    return out
  }) as [Float32Array, Float32Array]
  return { keys, values, length }
}

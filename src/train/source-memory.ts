// What a frozen encoder makes of the sources of trainings: read once, since no step changes it, and kept.
import type { Model } from '../model/model.ts'
import type { Feeds, Program, Runtime } from '../runtime/runtime.ts'
import { paddedSources } from '../runtime/source-feeds.ts'
import { float32, int32 } from '../tensor/tensor.ts'
import type { EncodedExample } from './encode.ts'
import { sourceFeeds } from './feeds.ts'
import { encoderGraph } from './graphs.ts'
import type { PrefixShape } from './parameters.ts'

/** Of all that is kept; sources beyond it are read anew in each step that has them. */
const keptBytesMax = 2 ** 30

/** Whether nothing that is trained at these places changes what the encoder makes of a source. */
export function isEncoderFrozen({ encoder }: Pick<Model, 'encoder'>, { places }: Pick<PrefixShape, 'places'>): boolean {
  return encoder !== null && places.every(({ attachment }) => attachment !== 'encoder_self')
}

/** Feeds of a batch's sources: as tokens where the graph reads them. */
export async function feedsOfSources(memory: SourceMemory | null, batch: readonly EncodedExample[]): Promise<Feeds> {
  return memory === null ? sourceFeeds(batch) : memory.feeds(batch)
}

export class SourceMemory {
  readonly #runtime: Runtime
  readonly #model: Model
  readonly #form: string
  readonly #bytesMax: number
  readonly #kept = new Map<readonly number[], Promise<Float32Array>>()
  #bytes = 0
  #program: Promise<Program> | null = null

  /** Of a model with an encoder; `form` is the runtime's, of products with frozen weights. */
  constructor(runtime: Runtime, model: Model, form: string, bytesMax = keptBytesMax) {
    this.#runtime = runtime
    this.#model = model
    this.#form = form
    this.#bytesMax = bytesMax
  }

  /** Bytes of what is kept. */
  get bytes(): number {
    return this.#bytes
  }

  /** float32 source.hidden [B, S, width], with zeros behind the shorter ones, and int32 source.lengths [B]; without sources nothing. */
  async feeds(batch: readonly EncodedExample[]): Promise<Feeds> {
    const sources = batch.flatMap(({ source }) => (source === undefined ? [] : [source]))
    if (sources.length === 0) return {}
    const { width } = this.#model.config
    const longest = Math.max(...sources.map(({ length }) => length))
    const hidden = new Float32Array(sources.length * longest * width)
    for (const [b, source] of sources.entries()) hidden.set(await this.#read(source), b * longest * width)
    const lengths = Int32Array.from(sources, ({ length }) => length)
    return {
      'source.hidden': float32(hidden, [sources.length, longest, width]),
      'source.lengths': int32(lengths, [sources.length]),
    }
  }

  /** Later feeds read everything anew. */
  async forget(): Promise<void> {
    this.#kept.clear()
    this.#bytes = 0
    const program = this.#program
    this.#program = null
    await (await program)?.dispose()
  }

  /** The example's own list of tokens is the key: it is the same one epoch after epoch. */
  #read(source: readonly number[]): Promise<Float32Array> {
    const known = this.#kept.get(source)
    if (known !== undefined) return known
    const read = this.#encode(source)
    const bytes = 4 * source.length * this.#model.config.width
    if (this.#bytes + bytes <= this.#bytesMax) {
      this.#bytes += bytes
      this.#kept.set(source, read)
    }
    return read
  }

  /** Alone, whatever comes beside it: its bits do not depend on the batch it is first met in, and so not on where a run was resumed. */
  async #encode(source: readonly number[]): Promise<Float32Array> {
    this.#program ??= this.#compile()
    const { tokens, positions, lengths } = paddedSources([source])
    const { hidden } = await (await this.#program).run({
      'source.tokens': tokens,
      'source.positions': positions,
      'source.lengths': lengths,
      noLengths: int32(Int32Array.of(0), [1]),
    })
    return hidden?.data as Float32Array
  }

  #compile(): Promise<Program> {
    return this.#runtime.compile(encoderGraph(this.#model), this.#model.weights, this.#form)
  }
}

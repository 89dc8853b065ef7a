// Decoding on onnxruntime: the KV cache lives in host arrays and is an input only, never copied through the graph.
import assert from 'node:assert/strict'
import { inputsOf, type Graph } from '../../graph/graph.ts'
import { int32, type Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Past, Program, SessionPart, SourceRow } from '../runtime.ts'
import { shiftOf, tokensAndPositions } from '../row-tokens.ts'
import { feedRows, RowCache } from './row-cache.ts'
import type { SourceReader } from './source-reader.ts'

/** Positions of a row that is not long, unless said otherwise. */
const usualShortMax = 256

/** Neighbouring rows of one cache: a part of a step, or a piece of one. */
interface Segment extends SessionPart {
  readonly cache: RowCache
}

export interface DecodingOptions {
  /** null: the model has no encoder. */
  readonly reader?: SourceReader | null
  /** Rows of more positions are long. */
  readonly shortMax?: number
  /**
   * Whether the program writes new keys and values into the cache itself, and has no output `present`. Its attention costs by the length of each row:
   * then a cache has its largest capacity from the start, as nothing is to be moved later and steps are of fewer shapes.
   */
  readonly appends?: boolean
}

/**
 * On onnxruntime attention costs by the capacity of a cache, so there are two: long rows are apart, and cost the short ones beside them nothing. A
 * segment of the graph takes rows of one of them.
 */
export class OnnxDecodeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  readonly tellsEvery = true
  readonly #program: Program
  /** null: the model has no encoder. */
  readonly #reader: SourceReader | null
  /** Rows of one cache that the program takes. */
  readonly #segments: number
  readonly #appends: boolean
  readonly #shortMax: number
  readonly #short: RowCache
  readonly #long: RowCache
  /** By how much the position of a row's next token is less than its length. */
  readonly #shifts: Int32Array

  /** `program` computes `forward`, its keys by position (`keys-by-position.ts`). */
  constructor(
    program: Program,
    forward: Graph,
    layout: CacheLayout,
    { reader = null, shortMax = usualShortMax, appends = false }: DecodingOptions = {},
  ) {
    this.#program = program
    this.#reader = reader
    this.#appends = appends
    this.#segments = segmentsOf(forward)
    this.#shortMax = shortMax
    this.layout = layout
    this.vocabulary = forward.outputs['logits']?.shape[1] as number
    this.lengths = new Int32Array(layout.rowsMax)
    this.#shifts = new Int32Array(layout.rowsMax)
    const positionsMax = Math.min(shortMax, layout.positionsMax)
    const costs = appends ? 'byLength' : 'byCapacity'
    this.#short = new RowCache({ ...layout, positionsMax }, this.lengths, costs)
    this.#long = new RowCache(layout, this.lengths, costs)
    this.#short.reserve(1)
    for (let row = 0; row < layout.rowsMax; row++) this.#short.enter(row)
  }

  seed(row: number, past: Past | null): void {
    this.lengths[row] = 0
    this.#shifts[row] = shiftOf(past)
    const cache = this.#put(row, past?.length ?? 0)
    if (past === null) return
    cache.seed(row, past)
    this.lengths[row] = past.length
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
    if (!this.#appends) this.#short.shrink()
    this.#long.shrink()
    for (const { start, tokens } of parts) tokens.forEach((row, b) => this.#makeRoom(start + b, row.length))
    const segments = this.#segmentsOf(parts)
    const feeds: Record<string, Tensor> = {}
    const wanted: number[] = []
    const widths: number[] = []
    let base = 0
    for (let s = 0; s < this.#segments; s++) {
      const segment = segments[s] ?? { start: 0, tokens: [], cache: this.#short }
      const width = segment.tokens.reduce((most, { length }) => Math.max(most, length), 1)
      this.#feed(feeds, this.#segments === 1 ? '' : `${s}.`, segment, width)
      for (const [b, row] of segment.tokens.entries()) {
        const first = segment.every ? 0 : row.length - 1
        for (let t = first; t < row.length; t++) wanted.push(base + b * width + t)
      }
      widths.push(width)
      base += segment.tokens.length * width
    }
    feeds['rows'] = int32(Int32Array.from(wanted), [wanted.length])
    const outputs = await this.#program.run(feeds)
    if (!this.#appends) this.#append(segments, widths, base, (outputs['present'] as Tensor).data as Float32Array)
    for (const { start, tokens } of parts) {
      tokens.forEach((row, b) => {
        this.lengths[start + b] = (this.lengths[start + b] as number) + row.length
      })
    }
    return (outputs['logits'] as Tensor).data as Float32Array
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.lengths[row] = 0
    this.#reader?.release(rows)
  }

  copy(from: number, to: number, since: number, until: number): void {
    assert.ok(since <= until && until <= (this.lengths[from] as number), `row ${from} to ${to}: ${since} to ${until}`)
    const [source, before] = [this.#cacheOf(from), this.#cacheOf(to)]
    const cache = this.#put(to, until)
    // What both hold already is there only where the row stays in its cache.
    if (from !== to || cache !== source) cache.copy(source, from, to, cache === before ? since : 0, until)
    this.lengths[to] = until
    if (from === to) return
    this.#shifts[to] = this.#shifts[from] as number
    // Rows that begin alike have read the same.
    if (since === 0) this.#reader?.copy(from, to)
  }

  async dispose(): Promise<void> {
    await this.#program.dispose()
    await this.#reader?.dispose()
    this.#short.clear()
    this.#long.clear()
  }

  #cacheOf(row: number): RowCache {
    return this.#long.has(row) ? this.#long : this.#short
  }

  /** Gives `row` to the cache for so many positions, with room for them. What it held is lost if that is another one. */
  #put(row: number, positions: number): RowCache {
    const [cache, other] = positions > this.#shortMax ? [this.#long, this.#short] : [this.#short, this.#long]
    if (other.has(row)) this.lengths[row] = 0
    other.leave(row)
    cache.enter(row)
    cache.reserve(Math.max(1, positions))
    return cache
  }

  /** Moves a row with what it holds to the cache of the long ones. */
  #lengthen(row: number, positions: number): void {
    this.#long.reserve(Math.max(1, positions))
    if (this.#long.has(row)) return
    this.#long.copy(this.#short, row, row, 0, this.lengths[row] as number)
    this.#short.leave(row)
    this.#long.enter(row)
  }

  /** For so many more positions, in the cache that the row then belongs to. */
  #makeRoom(row: number, count: number): void {
    const after = (this.lengths[row] as number) + count
    if (after > this.#shortMax) this.#lengthen(row, after)
    else this.#cacheOf(row).reserve(after)
  }

  /** Cuts each part where its rows change from one cache to the other. */
  #segmentsOf(parts: readonly SessionPart[]): readonly Segment[] {
    const cut = (part: SessionPart): Segment[] => {
      const segments: (Segment & { readonly tokens: (readonly number[])[] })[] = []
      const { every = false } = part
      part.tokens.forEach((row, b) => {
        const cache = this.#cacheOf(part.start + b)
        if (segments.at(-1)?.cache === cache) segments.at(-1)?.tokens.push(row)
        else segments.push({ start: part.start + b, tokens: [row], every, cache })
      })
      return segments
    }
    const segments = parts.map(cut)
    if (segments.flat().length <= this.#segments) return segments.flat()
    // The graph has not as many: rows between long ones become long themselves, until they are seeded anew.
    for (const [i, part] of parts.entries()) {
      if ((segments[i] as Segment[]).length < 2) continue
      part.tokens.forEach((row, b) =>
        this.#lengthen(part.start + b, (this.lengths[part.start + b] as number) + row.length),
      )
    }
    return parts.flatMap(cut)
  }

  #feed(feeds: Record<string, Tensor>, name: string, { start, tokens, cache }: Segment, width: number): void {
    const batch = tokens.length
    const { ids, positions } = tokensAndPositions({ start, tokens }, width, {
      layout: this.layout,
      lengths: this.lengths,
      shifts: this.#shifts,
    })
    feeds[`${name}tokens`] = int32(ids, [batch, width])
    feeds[`${name}positions`] = int32(positions, [batch, width])
    feedRows(feeds, `${name}past`, cache, start, batch)
    if (this.#reader !== null) feedRows(feeds, `${name}cross`, this.#reader.cache, start, batch)
  }

  /** Writes the new positions of each row; `present` is [2·layers, positions of all segments, heads·headDim]. */
  #append(segments: readonly Segment[], widths: readonly number[], total: number, present: Float32Array): void {
    const { layers, heads, headDim } = this.layout
    const layerSize = total * heads * headDim
    let base = 0
    segments.forEach(({ start, tokens }, s) => {
      const width = widths[s] as number
      tokens.forEach((row, b) => {
        const cache = this.#cacheOf(start + b)
        const from = (base + b * width) * heads * headDim
        for (let l = 0; l < layers; l++) {
          const keysAt = 2 * l * layerSize + from
          cache.append(l, start + b, present, keysAt, keysAt + layerSize, row.length)
        }
      })
      base += tokens.length * width
    })
  }
}

function segmentsOf(forward: Graph): number {
  return inputsOf(forward).filter(({ attributes }) => /(^|\.)tokens$/.test(attributes.name)).length
}

// Keys and values of many rows in the memory of the device, all with room for as many positions; the host knows their lengths.
import assert from 'node:assert/strict'
import type { CacheLayout, Past } from '../runtime.ts'
import { appendModel, cacheInput, cacheOutput, copyModel, growModel, madeInput, sliceModel } from './cache-models.ts'
import { ints, longs, viewOf, type Device, type DeviceTensor, type OnnxFeeds } from './device.ts'
import type { PastStore } from './past-store.ts'

/** Capacities are multiples of so many positions. */
const positionsStep = 32
/** A cache that grows is copied: so it grows by much, and seldom. */
const growth = 1.25
/** One that became too large shrinks once no row needed half of it for so many steps. */
const shrinkSteps = 256

/** What is asked for is done in order at the next `settle`, as nothing on the device can be done at once. */
type Change =
  | { readonly seed: number; readonly past: Past }
  | { readonly from: number; readonly to: number; readonly since: number; readonly until: number }

/** The device has made `width` positions of each row, of which the row keeps its first `counts`. */
export interface Made {
  readonly rows: readonly number[]
  readonly width: number
  readonly counts: readonly number[]
  /** Keys and values by layer, [rows · width, heads·headDim] each; or all of them in one, [2·layers, …]. */
  readonly tensors: readonly DeviceTensor[] | DeviceTensor
}

export class WebgpuRowCache {
  readonly layout: CacheLayout
  /** Cached positions of each row, with the changes that are still to be made. */
  readonly lengths: Int32Array
  readonly #device: Device
  readonly #pasts: PastStore
  #changes: Change[] = []
  /** Keys and values by layer. The last position of a row is nobody's: what is padding is written there. */
  #tensors: DeviceTensor[] = []
  #capacity = 0
  #roomySteps = 0

  constructor(device: Device, pasts: PastStore, layout: CacheLayout) {
    this.#device = device
    this.#pasts = pasts
    this.layout = layout
    this.lengths = new Int32Array(layout.rowsMax)
  }

  /** Forgets what the row held. */
  seed(row: number, past: Past | null): void {
    this.lengths[row] = past?.length ?? 0
    if (past === null) return
    assert.ok(past.length <= this.layout.positionsMax, `${past.length} positions of ${this.layout.positionsMax}`)
    this.#changes.push({ seed: row, past })
  }

  /** Positions from `since` to below `until` of row `from` go to row `to`, which ends there; what it holds before them it keeps. */
  copy(from: number, to: number, since: number, until: number): void {
    assert.ok(since <= until && until <= (this.lengths[from] as number), `row ${from} to ${to}: ${since} to ${until}`)
    if (until > since && from !== to) this.#changes.push({ from, to, since, until })
    this.lengths[to] = until
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.lengths[row] = 0
  }

  /** Makes all changes that were asked for, and room for `positions` in every row. */
  async settle(positions: number): Promise<void> {
    const changes = this.#changes
    this.#changes = []
    // Rows may have been longer for a moment than they are now.
    const touched = changes.map((change) => ('past' in change ? change.past.length : change.until))
    await this.#reserve(Math.max(1, positions, ...touched, ...this.lengths))
    let copies: Extract<Change, { from: number }>[] = []
    for (const change of changes) {
      if ('from' in change && !copies.some(({ to }) => to === change.from || to === change.to)) copies.push(change)
      else {
        await this.#copy(copies)
        copies = []
        if ('from' in change) copies.push(change)
        else await this.#seed(change.seed, change.past)
      }
    }
    await this.#copy(copies)
  }

  /** Keys and values by layer of `count` rows from `start` on, with so many positions at least; to be given back by `dispose`. */
  async rows(start: number, count: number, positions: number): Promise<readonly DeviceTensor[]> {
    // The first rows are where the memory begins: nothing is copied.
    if (start === 0) return this.#tensors.map((tensor, i) => viewOf(tensor, this.#dims(i, count, this.#capacity)))
    const model = await this.#model('slice', () => sliceModel(this.layout))
    const until = Math.min(Math.ceil(Math.max(1, positions) / positionsStep) * positionsStep, this.#capacity)
    const bounds = { start: longs([start]), end: longs([start + count]), positions: longs([until]) }
    const sliced = await this.#device.run(model, { ...bounds, ...this.#feeds() })
    return this.#tensors.map((_, i) => sliced[cacheOutput(i)] as DeviceTensor)
  }

  /** Gives back what `rows` answered for rows from `start` on. */
  giveBack(start: number, tensors: readonly DeviceTensor[]): void {
    if (start > 0) for (const tensor of tensors) tensor.dispose()
  }

  /** Puts new positions behind those of each row; there is room for them. */
  async append({ rows, width, counts, tensors }: Made): Promise<void> {
    const places: number[] = []
    rows.forEach((row, b) => {
      const [length, count] = [this.lengths[row] as number, counts[b] as number]
      assert.ok(length + count < this.#capacity)
      for (let t = 0; t < width; t++) places.push(t < count ? length + t : this.#capacity - 1)
      this.lengths[row] = length + count
    })
    await this.#write(
      rows.flatMap((row) => Array.from({ length: width }, () => row)),
      places,
      tensors,
    )
  }

  /** To be called once a step: attention costs by capacity, so one long row must not slow down all that come after it. */
  async shrink(): Promise<void> {
    const needed = Math.max(positionsStep, ...this.lengths)
    this.#roomySteps = this.#capacity > 2 * (needed + positionsStep) ? this.#roomySteps + 1 : 0
    if (this.#roomySteps <= shrinkSteps) return
    this.#roomySteps = 0
    const model = await this.#model('slice', () => sliceModel(this.layout))
    const earlier = this.#capacity
    const later = this.#capacityFor(needed)
    const { rowsMax, heads, headDim } = this.layout
    const all = { start: longs([0]), end: longs([rowsMax]), positions: longs([later]) }
    const sliced = await this.#device.run(model, { ...all, ...this.#feeds() })
    const smaller = this.#tensors.map((_, i) => sliced[cacheOutput(i)] as DeviceTensor)
    for (const [i, tensor] of smaller.entries()) {
      const old = this.#tensors[i] as DeviceTensor
      // The last that was taken over lies before so many positions of the last row, of keys or of whole values.
      const behind = (earlier - later) * (i % 2 === 0 ? 1 : headDim)
      const last = await this.#device.numberAt(old, rowsMax * heads * headDim * earlier - 1 - behind)
      await this.#device.checkRoom(
        tensor,
        last,
        `a KV cache of ${rowsMax} rows of ${later} positions beside the earlier`,
      )
    }
    for (const tensor of this.#tensors) tensor.dispose()
    this.#tensors = smaller
    this.#capacity = later
  }

  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose()
    this.#tensors = []
    this.#capacity = 0
  }

  async #seed(row: number, past: Past): Promise<void> {
    const stored = await this.#pasts.get(past)
    const positions = Array.from({ length: past.length }, (_, p) => p)
    await this.#write(
      positions.map(() => row),
      positions,
      stored,
    )
  }

  async #write(
    rows: readonly number[],
    positions: readonly number[],
    tensors: readonly DeviceTensor[] | DeviceTensor,
  ): Promise<void> {
    const stacked = !Array.isArray(tensors)
    const model = await this.#model(
      stacked ? 'append stacked' : 'append',
      () => appendModel(this.layout, stacked),
      'given',
    )
    const made: Record<string, DeviceTensor> = {}
    if (Array.isArray(tensors)) (tensors as DeviceTensor[]).forEach((tensor, i) => (made[madeInput(i)] = tensor))
    else made['made'] = tensors as DeviceTensor
    const places = { row: ints(rows, [rows.length, 1]), position: ints(positions, [rows.length, 1]) }
    await this.#inPlace(model, { ...places, ...made })
  }

  /** Copies of which none reads or writes what another writes. */
  async #copy(copies: readonly { from: number; to: number; since: number; until: number }[]): Promise<void> {
    if (copies.length === 0) return
    const each = (row: (copy: (typeof copies)[number], position: number) => number): number[] =>
      copies.flatMap((copy) => Array.from({ length: copy.until - copy.since }, (_, i) => row(copy, copy.since + i)))
    const position = each((_, at) => at)
    const dims = [position.length, 1]
    const model = await this.#model('copy', () => copyModel(this.layout), 'given')
    await this.#inPlace(model, {
      row: ints(
        each(({ to }) => to),
        dims,
      ),
      position: ints(position, dims),
      fromRow: ints(
        each(({ from }) => from),
        dims,
      ),
      fromPosition: ints(position, dims),
    })
  }

  async #inPlace(model: Awaited<ReturnType<Device['open']>>, feeds: OnnxFeeds): Promise<void> {
    const caches: Record<string, DeviceTensor> = {}
    const after: Record<string, DeviceTensor> = {}
    this.#tensors.forEach((tensor, i) => {
      const vector = viewOf(tensor, [tensor.size])
      caches[cacheInput(i)] = vector
      after[cacheOutput(i)] = vector
    })
    await this.#device.run(model, { ...feeds, ...caches, capacity: ints([this.#capacity], [1, 1]) }, after)
  }

  async #reserve(positions: number): Promise<void> {
    if (positions < this.#capacity) return
    const earlier = this.#capacity
    const later = this.#capacityFor(Math.max(positions, growth * earlier))
    const { layers, rowsMax } = this.layout
    const what = `a KV cache of ${rowsMax} rows of ${later} positions`
    for (let i = 0; i < 2 * layers; i++) {
      const dims = this.#dims(i, rowsMax, later)
      const old = this.#tensors[i]
      if (old === undefined) {
        this.#tensors[i] = await this.#device.ones(dims, what)
        continue
      }
      const half = (i % 2) as 0 | 1
      const model = await this.#model(`grow ${half}`, () => growModel(this.layout, half))
      const pads = half === 0 ? [0, 0, 0, 0, 0, 0, 0, later - earlier] : [0, 0, 0, 0, 0, 0, later - earlier, 0]
      const grown = await this.#device.run(model, { [cacheInput(half)]: old, pads: longs(pads) })
      const tensor = grown[cacheOutput(half)] as DeviceTensor
      // Where nobody's position is: what was not written there was written nowhere.
      await this.#device.checkRoom(tensor, 1, what)
      old.dispose()
      this.#tensors[i] = tensor
    }
    this.#capacity = later
  }

  /** With a place for padding behind the last position. */
  #capacityFor(positions: number): number {
    const most = Math.min(positions, this.layout.positionsMax)
    return Math.ceil((most + 1) / positionsStep) * positionsStep
  }

  #dims(i: number, rows: number, positions: number): number[] {
    const { heads, headDim } = this.layout
    return i % 2 === 0 ? [rows, heads, headDim, positions] : [rows, heads, positions, headDim]
  }

  #feeds(): OnnxFeeds {
    return Object.fromEntries(this.#tensors.map((tensor, i) => [cacheInput(i), tensor]))
  }

  #model(kind: string, make: () => Uint8Array, place: 'device' | 'given' = 'device'): ReturnType<Device['open']> {
    const { layers, heads, headDim } = this.layout
    return this.#device.kept(`${kind} ${layers} ${heads} ${headDim}`, place, make)
  }
}

// Keys and values of many rows in the device's memory, each with room for all positions.
import assert from 'node:assert/strict'
import type { CacheLayout, Past } from '../runtime.ts'
import type { Device } from './device.ts'
import { at } from './lowering.ts'
import { addressOf, forms, intStruct, Storage, type Form, type KernelArgument } from './steps.ts'

const threads = 128

/** Keys [layer, row, heads, headDim, position], values [layer, row, heads, position, headDim]. */
export class CudaRowCache {
  readonly layout: CacheLayout
  /** Of its numbers. What comes in is float32, and rounded where this is not. */
  readonly form: Form
  /** Cached positions of each row. */
  readonly lengths: Int32Array
  readonly #device: Device
  readonly #keys: Storage
  readonly #values: Storage
  #staging = { address: 0n, bytes: 0 }

  /** `what` names it where there is no memory for it. */
  constructor(device: Device, layout: CacheLayout, form: Form, what: string) {
    this.#device = device
    this.layout = layout
    this.form = form
    this.lengths = new Int32Array(layout.rowsMax)
    const { layers, heads, headDim, rowsMax, positionsMax } = layout
    const bytes = bytesOf(form) * layers * rowsMax * heads * headDim * positionsMax
    const half = `half of the ${what}, ${rowsMax} rows × ${positionsMax} positions (lower ROWS_MAX for less),`
    const [keys, values] = [0, 1].map(() => {
      const address = device.driver.allocate(bytes, half)
      // Masked positions are read by nobody, but a copy of a row may move them.
      device.driver.fill(address, 0, bytes)
      return new Storage(bytes, 'resident', address)
    }) as [Storage, Storage]
    this.#keys = keys
    this.#values = values
  }

  /** Forgets what the row held. */
  seed(row: number, past: Past | null): void {
    this.lengths[row] = 0
    if (past === null) return
    const { layers, heads, positionsMax } = this.layout
    assert.ok(past.length <= positionsMax, `a past of ${past.length} positions of ${positionsMax}`)
    const bytes = past.keys.byteLength
    const { driver } = this.#device
    const staging = this.#stage(2 * bytes)
    driver.upload(staging, past.keys)
    driver.upload(staging + BigInt(bytes), past.values)
    const storage = new Storage(2 * bytes, 'resident', staging)
    const given = [at({ storage, offset: 0 }), at({ storage, offset: bytes / 4 }), ...this.arguments()]
    this.#launch('cache_seed', layers * heads, [...given, { int: row }, { int: past.length }, this.shape()])
    this.lengths[row] = past.length
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.lengths[row] = 0
  }

  /** Positions from `since` to below `until` of row `from` go to row `to`, which ends there; what it holds before them it keeps. */
  copy(from: number, to: number, since: number, until: number): void {
    assert.ok(since <= until && until <= (this.lengths[from] as number), `row ${from} to ${to}: ${since} to ${until}`)
    const { layers, heads } = this.layout
    const given = [...this.arguments(), { int: from }, { int: to }, { int: since }, { int: until }, this.shape()]
    if (until > since && from !== to) this.#launch('cache_copy', layers * heads, given)
    this.lengths[to] = until
  }

  /** Where each layer begins, of the rows from `start`, by the names of the graph's inputs. */
  resident(name: string, start: number): [string, bigint][] {
    const { layers, rowsMax, heads, headDim, positionsMax } = this.layout
    return Array.from({ length: layers }, (_, l): [string, bigint][] => {
      const offset = BigInt(bytesOf(this.form) * (l * rowsMax + start) * heads * headDim * positionsMax)
      return [
        [`${name}Key.${l}`, (this.#keys.address as bigint) + offset],
        [`${name}Value.${l}`, (this.#values.address as bigint) + offset],
      ]
    }).flat()
  }

  arguments(): KernelArgument[] {
    return [this.#keys, this.#values].map((storage) => at({ storage, offset: 0 }))
  }

  /** CacheShape of the kernels. */
  shape(): KernelArgument {
    const { layers, rowsMax, heads, headDim, positionsMax } = this.layout
    return { struct: intStruct([layers, rowsMax, heads, headDim, positionsMax, forms.indexOf(this.form)]) }
  }

  dispose(): void {
    const { driver } = this.#device
    for (const { address } of [this.#keys, this.#values]) driver.free(address as bigint)
    if (this.#staging.bytes > 0) driver.free(this.#staging.address)
  }

  #launch(name: string, blocks: number, args: readonly KernelArgument[]): void {
    this.#device.launch(
      { kind: 'kernel', heads: null, name, grid: [blocks, 1, 1], threads, arguments: args, bytes: 0 },
      addressOf,
    )
  }

  /** Memory for what is on its way into the cache. */
  #stage(bytes: number): bigint {
    if (bytes > this.#staging.bytes) {
      const { driver } = this.#device
      driver.synchronize()
      if (this.#staging.bytes > 0) driver.free(this.#staging.address)
      this.#staging = { address: driver.allocate(bytes, 'a prefix on its way into the cache'), bytes }
    }
    return this.#staging.address
  }
}

const bytesOf = (form: Form): number => (form === 'float32' ? 4 : 2)

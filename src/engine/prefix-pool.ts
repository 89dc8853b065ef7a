// The prefixes held in memory: loaded on first use, shared by all requests that name them, the least recently used let go first.
import { ServiceError } from '../errors/errors.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixLoader } from './request.ts'

/** A prefix that stays in memory until `release` is called. */
export interface Lease {
  readonly prefix: Prefix
  release(): void
}

interface Resident {
  readonly prefix: Prefix
  readonly bytes: number
  leases: number
}

/** What a client is told to wait when everything in memory is in use. */
const retryAfterSeconds = 2

export class PrefixPool {
  readonly #load: PrefixLoader
  readonly #bytesMax: number
  /** Least recently used first: a Map keeps the order in which keys were set. */
  readonly #residents = new Map<string, Resident>()
  readonly #loading = new Map<string, { leases: number; readonly resident: Promise<Resident> }>()
  #bytes = 0
  #evictions = 0

  constructor(load: PrefixLoader, bytesMax: number) {
    this.#load = load
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Prefixes that were let go to make room for others. */
  get evictions(): number {
    return this.#evictions
  }

  has(prefixId: string): boolean {
    return this.#residents.has(prefixId)
  }

  get size(): number {
    return this.#residents.size
  }

  get ids(): readonly string[] {
    return [...this.#residents.keys()]
  }

  /** First uses at the same time load once. A failed load fails those who wait for it, and is tried anew by the next. */
  async lease(prefixId: string): Promise<Lease> {
    const resident = this.#residents.get(prefixId)
    if (resident !== undefined) {
      this.#residents.delete(prefixId)
      this.#residents.set(prefixId, resident)
      resident.leases++
      return leaseOf(resident)
    }
    let loading = this.#loading.get(prefixId)
    if (loading === undefined) {
      loading = { leases: 0, resident: this.#admit(prefixId).finally(() => this.#loading.delete(prefixId)) }
      this.#loading.set(prefixId, loading)
    }
    loading.leases++ // Counted before it is there, so that it cannot be let go before it was used.
    return leaseOf(await loading.resident)
  }

  async #admit(prefixId: string): Promise<Resident> {
    const prefix = await this.#load(prefixId)
    const bytes = prefix.keys.byteLength + prefix.values.byteLength
    if (bytes > this.#bytesMax) {
      throw new ServiceError(
        'not_supported',
        `prefix ${prefixId} takes ${bytes} bytes, and this service keeps at most ${this.#bytesMax} bytes of prefixes`,
        { bytes, bytesMax: this.#bytesMax },
      )
    }
    this.#makeRoom(prefixId, bytes)
    const resident = { prefix, bytes, leases: this.#loading.get(prefixId)?.leases ?? 0 }
    this.#residents.set(prefixId, resident)
    this.#bytes += bytes
    return resident
  }

  #makeRoom(prefixId: string, bytes: number): void {
    const idle = [...this.#residents].filter(([, { leases }]) => leases === 0)
    const idleBytes = idle.reduce((sum, [, resident]) => sum + resident.bytes, 0)
    if (this.#bytes - idleBytes + bytes > this.#bytesMax) {
      throw new ServiceError(
        'overloaded',
        `prefix ${prefixId} takes ${bytes} bytes, and of ${this.#bytesMax} bytes for prefixes ` +
          `${this.#bytes - idleBytes} are in use by running requests`,
        { retryAfterSeconds },
      )
    }
    for (const [id, resident] of idle) {
      if (this.#bytes + bytes <= this.#bytesMax) return
      this.#residents.delete(id)
      this.#bytes -= resident.bytes
      this.#evictions += 1
    }
  }
}

function leaseOf(resident: Resident): Lease {
  let released = false
  const release = (): void => {
    if (!released) resident.leases--
    released = true
  }
  return { prefix: resident.prefix, release }
}

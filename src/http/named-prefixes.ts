// Which prefixes have figures of their own: a bounded number, those in use, so that a thousand prefixes make no thousand series.

/** Of requests without a prefix. */
const bareLabel = 'none'
/** Of all prefixes that have no place of their own. */
const otherLabel = 'other'

export interface NamingLimits {
  readonly prefixesMax: number
  /** A prefix that nobody asked for so long gives its place to the next that comes. */
  readonly idleMs: number
}

const namingLimits: NamingLimits = { prefixesMax: 64, idleMs: 15 * 60_000 }

/** Deleted prefixes whose last requests may still end. */
const deletedMax = 1_000

/**
 * Places are not taken from prefixes in use: series that come and go with every request would be of no use to anybody, and
 * each of them stays in the memory of who collects them.
 */
export class NamedPrefixes {
  readonly #limits: NamingLimits
  /** When each was last asked for, in ms; the least recent first. */
  readonly #usedMs = new Map<string, number>()
  readonly #deleted = new Set<string>()
  readonly #onLeave: (label: string) => void

  /** `onLeave` is told whose series must go. */
  constructor(onLeave: (label: string) => void, limits: NamingLimits = namingLimits) {
    this.#onLeave = onLeave
    this.#limits = limits
  }

  get size(): number {
    return this.#usedMs.size
  }

  /** The value of the label `prefix`. `nowMs` is of any clock that only goes forward. */
  labelOf(prefixId: string | null, nowMs: number): string {
    if (prefixId === null) return bareLabel
    if (this.#deleted.has(prefixId)) return otherLabel
    if (!this.#usedMs.delete(prefixId) && !this.#makeRoom(nowMs)) return otherLabel
    this.#usedMs.set(prefixId, nowMs)
    return prefixId
  }

  /** Of a prefix that was deleted. Requests of it that end later count with the others. */
  forget(prefixId: string): void {
    this.#deleted.add(prefixId)
    const [oldest] = this.#deleted
    if (this.#deleted.size > deletedMax && oldest !== undefined) this.#deleted.delete(oldest)
    if (this.#usedMs.delete(prefixId)) this.#onLeave(prefixId)
  }

  #makeRoom(nowMs: number): boolean {
    const { prefixesMax, idleMs } = this.#limits
    if (this.#usedMs.size < prefixesMax) return true
    const [oldest] = this.#usedMs
    if (oldest === undefined || nowMs - oldest[1] < idleMs) return false
    this.#usedMs.delete(oldest[0])
    this.#onLeave(oldest[0])
    return true
  }
}

// The waiting line: whoever has been served the fewest tokens comes next, among clients first, then among a client's prefixes.
import type { Sequence } from './sequence.ts'

interface Served<T> {
  /** Tokens charged so far, lifted on return to the least of those in line. */
  tokens: number
  /** Rank of the last arrival after idling: of equal ones the first comes first. */
  since: number
  readonly inner: T
}

/** Clients or prefixes with nothing in line whose count is remembered, so that leaving and coming back gains nothing. */
const idleMax = 1024

/** One level: named lines, each with the tokens that it was served. */
class Level<T> {
  readonly #all = new Map<string, Served<T>>()
  readonly #make: () => T
  readonly #isWaiting: (inner: T) => boolean
  #arrivals = 0

  constructor(make: () => T, isWaiting: (inner: T) => boolean) {
    this.#make = make
    this.#isWaiting = isWaiting
  }

  /** The line of that name, about to get one more. */
  enter(name: string): T {
    const known = this.#all.get(name)
    if (known !== undefined && this.#isWaiting(known.inner)) return known.inner
    const least = this.least()?.tokens ?? 0
    const tokens = Math.max(known?.tokens ?? 0, least)
    const served = { tokens, since: this.#arrivals++, inner: known?.inner ?? this.#make() }
    this.#all.delete(name)
    this.#all.set(name, served)
    this.#forgetIdle()
    return served.inner
  }

  find(name: string): T | undefined {
    return this.#all.get(name)?.inner
  }

  least(): Served<T> | null {
    let least: Served<T> | null = null
    for (const served of this.#all.values()) {
      if (!this.#isWaiting(served.inner)) continue
      const isBefore =
        least === null || served.tokens < least.tokens || (served.tokens === least.tokens && served.since < least.since)
      if (isBefore) least = served
    }
    return least
  }

  charge(name: string, tokens: number): T | undefined {
    const served = this.#all.get(name)
    if (served !== undefined) served.tokens += tokens
    return served?.inner
  }

  #forgetIdle(): void {
    if (this.#all.size <= idleMax) return
    for (const [name, { inner }] of this.#all) {
      if (this.#all.size <= idleMax) return
      if (!this.#isWaiting(inner)) this.#all.delete(name)
    }
  }
}

type PrefixLine<S> = S[]
type ClientLines<S> = Level<PrefixLine<S>>

/**
 * Virtual token counters (Sheng et al. 2024, Fairness in Serving Large Language Models): prompt tokens and tokens made are
 * charged to the client, the former when it gets a row; a client that comes back is lifted to the least count in line, so that idling
 * saves nothing up. The same again for the prefixes of a client, and within one of them first come, first served.
 */
export class FairQueue<S extends Sequence> {
  readonly #clients: Level<ClientLines<S>>
  #length = 0

  constructor() {
    const makeLines = (): ClientLines<S> =>
      new Level<PrefixLine<S>>(
        () => [],
        (line) => line.length > 0,
      )
    this.#clients = new Level(makeLines, (lines) => lines.least() !== null)
  }

  get length(): number {
    return this.#length
  }

  push(sequence: S): void {
    this.#clients.enter(sequence.client).enter(sequence.prefixKey).push(sequence)
    this.#length++
  }

  peek(): S | null {
    return this.#clients.least()?.inner.least()?.inner[0] ?? null
  }

  /** True where it was in line. */
  remove(sequence: S): boolean {
    const line = this.#clients.find(sequence.client)?.find(sequence.prefixKey)
    const place = line?.indexOf(sequence) ?? -1
    if (place < 0) return false
    line?.splice(place, 1)
    this.#length--
    return true
  }

  charge({ client, prefixKey }: S, tokens: number): void {
    this.#clients.charge(client, tokens)?.charge(prefixKey, tokens)
  }
}

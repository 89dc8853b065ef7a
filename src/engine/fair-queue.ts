// The waiting line: of clients the one that was served the fewest tokens comes next, of its prefixes the one that has the fewest rows.
import type { Sequence } from './sequence.ts'

interface Arrival<S> {
  readonly sequence: S
  /** How many came before it. */
  readonly rank: number
}

interface Client<S> {
  readonly name: string
  /** Tokens charged so far, lifted on return to the least of those in line. */
  tokens: number
  /** Rank of the last arrival after idling: of equal ones the first comes first. */
  readonly since: number
  /** What it has in line, by prefix; none of them is empty. */
  readonly lines: Map<string | null, Arrival<S>[]>
}

/** Clients with nothing in line whose count is remembered, so that leaving and coming back gains nothing. */
const idleMax = 1024

/**
 * Virtual token counters (Sheng et al. 2024, Fairness in Serving Large Language Models) for clients: prompt tokens and tokens made
 * are charged, the former when a row is given; a client that comes back is lifted to the least count in line, so that idling saves
 * nothing up. Of one client's prefixes the one with the fewest rows comes next, whatever it was served before, and of equal
 * ones who came first. So nobody starves: once a prefix has no row any more, only those who came earlier go before it.
 */
export class FairQueue<S extends Sequence> {
  readonly #clients = new Map<string, Client<S>>()
  #length = 0
  #arrivals = 0

  get length(): number {
    return this.#length
  }

  push(sequence: S): void {
    const rank = this.#arrivals++
    const { lines } = this.#enter(sequence.client, rank)
    const line = lines.get(sequence.prefixId)
    if (line === undefined) lines.set(sequence.prefixId, [{ sequence, rank }])
    else line.push({ sequence, rank })
    this.#length++
  }

  /** Who comes next, where `running` have rows. */
  peek(running: readonly (S | null)[]): S | null {
    const client = this.#least()
    if (client === null) return null
    const rows = new Map<string | null, number>()
    for (const each of running)
      if (each?.client === client.name) rows.set(each.prefixId, (rows.get(each.prefixId) ?? 0) + 1)
    let next: (Arrival<S> & { readonly held: number }) | null = null
    for (const [prefixId, [first]] of client.lines) {
      const held = rows.get(prefixId) ?? 0
      if (first === undefined) continue
      if (next === null || held < next.held || (held === next.held && first.rank < next.rank)) next = { ...first, held }
    }
    return next?.sequence ?? null
  }

  /** True where it was in line. */
  remove(sequence: S): boolean {
    const lines = this.#clients.get(sequence.client)?.lines
    const line = lines?.get(sequence.prefixId)
    const place = line?.findIndex((arrival) => arrival.sequence === sequence) ?? -1
    if (place < 0) return false
    line?.splice(place, 1)
    if (line?.length === 0) lines?.delete(sequence.prefixId)
    this.#length--
    return true
  }

  charge(sequence: S, tokens: number): void {
    const client = this.#clients.get(sequence.client)
    if (client !== undefined) client.tokens += tokens
  }

  /** The client of that name, about to have one more in line. */
  #enter(name: string, rank: number): Client<S> {
    const known = this.#clients.get(name)
    if (known !== undefined && known.lines.size > 0) return known
    const tokens = Math.max(known?.tokens ?? 0, this.#least()?.tokens ?? 0)
    const client: Client<S> = { name, tokens, since: rank, lines: new Map() }
    this.#clients.delete(name)
    // Before it is there: nothing of it is in line yet.
    this.#forgetIdle()
    this.#clients.set(name, client)
    return client
  }

  #least(): Client<S> | null {
    let least: Client<S> | null = null
    for (const client of this.#clients.values()) {
      if (client.lines.size === 0) continue
      const isBefore =
        least === null || client.tokens < least.tokens || (client.tokens === least.tokens && client.since < least.since)
      if (isBefore) least = client
    }
    return least
  }

  #forgetIdle(): void {
    if (this.#clients.size < idleMax) return
    for (const [name, { lines }] of this.#clients) {
      if (this.#clients.size < idleMax) return
      if (lines.size === 0) this.#clients.delete(name)
    }
  }
}

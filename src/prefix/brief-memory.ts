// Remembers a bounded number of answers for a short time.

interface Remembered<T> {
  readonly value: T
  readonly untilMs: number
}

export class BriefMemory<T> {
  readonly #lifeMs: number
  readonly #entriesMax: number
  readonly #now: () => number
  /** The oldest first: a Map keeps the order in which keys were set. */
  readonly #entries = new Map<string, Remembered<T>>()
  #clears = 0

  constructor(lifeMs: number, entriesMax: number, now: () => number = () => performance.now()) {
    this.#lifeMs = lifeMs
    this.#entriesMax = entriesMax
    this.#now = now
  }

  /** What is remembered, or what `find` answers; that is remembered unless all was cleared while it was looked for. */
  async getOr(key: string, find: () => Promise<T>): Promise<T> {
    const known = this.get(key)
    if (known !== undefined) return known
    const clears = this.#clears
    const found = await find()
    if (clears === this.#clears) this.set(key, found)
    return found
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (entry.untilMs > this.#now()) return entry.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: T): void {
    this.#entries.delete(key)
    this.#entries.set(key, { value, untilMs: this.#now() + this.#lifeMs })
    if (this.#entries.size <= this.#entriesMax) return
    const [oldest] = this.#entries.keys()
    this.#entries.delete(oldest as string)
  }

  clear(): void {
    this.#clears++
    this.#entries.clear()
  }
}

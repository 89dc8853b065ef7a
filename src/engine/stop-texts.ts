// Finds the texts that end a generation, however the tokens cut them, and holds back what might become one.

/** A stop text as long as this is a mistake. In UTF-16 units. */
export const stopLengthMax = 1024
export const stopTextsMax = 16

export class StopTexts {
  readonly #stops: readonly string[]
  #held = ''
  #found = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  get found(): boolean {
    return this.#found
  }

  /**
   * Takes the next piece of text and answers what can be handed out. The stop text that is complete first counts, as if
   * the text came unit by unit, and of several that end together the longest; it and all behind it are dropped.
   */
  push(piece: string): string {
    if (this.#found) return ''
    this.#held += piece
    const start = this.#findStart()
    if (start !== null) {
      this.#found = true
      return this.#release(start)
    }
    return this.#release(this.#held.length - this.#mayBegin())
  }

  /** What was held back, once no more text comes. */
  flush(): string {
    return this.#found ? '' : this.#release(this.#held.length)
  }

  #findStart(): number | null {
    let start: number | null = null
    let end = Infinity
    for (const stop of this.#stops) {
      const at = this.#held.indexOf(stop)
      if (at < 0 || at + stop.length > end) continue
      start = at + stop.length === end ? Math.min(at, start ?? at) : at
      end = at + stop.length
    }
    return start
  }

  /** How many units at the end of the held text are the beginning of some stop text. */
  #mayBegin(): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, this.#held.length); length > longest; length--) {
        if (!this.#held.endsWith(stop.slice(0, length))) continue
        longest = length
        break
      }
    }
    return longest
  }

  #release(length: number): string {
    const released = this.#held.slice(0, length)
    this.#held = this.#found ? '' : this.#held.slice(length)
    return released
  }
}

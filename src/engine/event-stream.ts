// A queue with one writer and one reader: events pushed on one side are iterated on the other.

/** The writer bounds the queue: a generation makes at most one event a token. */
export class EventStream<T> {
  #queue: T[] = []
  /** Set once nothing more comes: the error, or null for a good end. */
  #end: { readonly error: unknown } | null = null
  #wake: () => void = () => {}

  get ended(): boolean {
    return this.#end !== null
  }

  /** Ignored after the end. */
  push(event: T): void {
    if (this.ended) return
    this.#queue.push(event)
    this.#wake()
  }

  /** What was pushed is still read; then the iteration ends. */
  end(): void {
    this.#end ??= { error: null }
    this.#wake()
  }

  /** What was pushed and not read is dropped; the iteration throws `error`. */
  fail(error: Error): void {
    if (this.ended) return
    this.#queue = []
    this.#end = { error }
    this.#wake()
  }

  async *read(): AsyncGenerator<T, void> {
    for (;;) {
      const events = this.#queue
      this.#queue = []
      yield* events
      if (this.#queue.length > 0) continue
      if (this.#end !== null) {
        if (this.#end.error !== null) throw this.#end.error
        return
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

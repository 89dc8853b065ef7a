// Where each intermediate lies in the arena: buffers whose lifetimes do not meet share memory.

export interface Lifetime {
  readonly bytes: number
  /** Steps that write or read it, first and last, both included. */
  readonly first: number
  readonly last: number
}

export interface MemoryPlan {
  /** Of each buffer, in the order they were given. */
  readonly offsets: readonly number[]
  /** Of the whole arena. */
  readonly bytes: number
}

export interface PlanOptions {
  /** Every offset is a multiple of it. */
  readonly alignment: number
  /** Nothing shares memory, and so many bytes lie unused behind each buffer: for checks that find who writes where it must not. */
  readonly gap?: number
}

/**
 * Largest first, each at the lowest offset where nothing lives at the same time (Pisarchyk & Lee 2020, greedy by size): never
 * more than their sum, and in practice within a few per cent of the most that lives at once.
 */
export function planMemory(lifetimes: readonly Lifetime[], { alignment, gap }: PlanOptions): MemoryPlan {
  const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment
  if (gap !== undefined) {
    let end = aligned(gap)
    const offsets = lifetimes.map(({ bytes }) => {
      const offset = end
      end += aligned(bytes) + aligned(gap)
      return offset
    })
    return { offsets, bytes: end }
  }
  const sizes = lifetimes.map(({ bytes }) => aligned(bytes))
  const order = lifetimes.map((_, i) => i).sort((a, b) => lifetimes[b]!.bytes - lifetimes[a]!.bytes || a - b)
  const offsets = lifetimes.map(() => 0)
  const living = new Living(lifetimes)
  let total = 0
  for (const i of order) {
    const size = sizes[i] as number
    let offset = 0
    for (const j of living.beside(i).sort((a, b) => offsets[a]! - offsets[b]!)) {
      if (offset + size <= offsets[j]!) break
      offset = Math.max(offset, offsets[j]! + sizes[j]!)
    }
    offsets[i] = offset
    total = Math.max(total, offset + size)
    living.add(i)
  }
  return { offsets, bytes: total }
}

/** Which buffers have a place already, by step: most live for a few steps beside a few others, of hundreds in all. */
class Living {
  readonly #lifetimes: readonly Lifetime[]
  readonly #atStep: number[][] = []
  /** For which buffer each was found last. */
  readonly #foundFor: Int32Array

  constructor(lifetimes: readonly Lifetime[]) {
    this.#lifetimes = lifetimes
    this.#foundFor = new Int32Array(lifetimes.length).fill(-1)
    // Some live for ever: until the last step at which anything begins or ends.
    let end = 0
    for (const { first, last } of lifetimes) end = Math.max(end, first, Number.isFinite(last) ? last : 0)
    for (let step = 0; step <= end; step++) this.#atStep.push([])
  }

  add(buffer: number): void {
    for (const there of this.#steps(buffer)) there.push(buffer)
  }

  /** Those that live at a time when `buffer` does. */
  beside(buffer: number): number[] {
    const found: number[] = []
    for (const there of this.#steps(buffer)) {
      for (const other of there) {
        if (this.#foundFor[other] === buffer) continue
        this.#foundFor[other] = buffer
        found.push(other)
      }
    }
    return found
  }

  #steps(buffer: number): number[][] {
    const { first, last } = this.#lifetimes[buffer] as Lifetime
    return this.#atStep.slice(first, last + 1)
  }
}

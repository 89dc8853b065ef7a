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
  const order = lifetimes.map((_, i) => i).sort((a, b) => lifetimes[b]!.bytes - lifetimes[a]!.bytes || a - b)
  const offsets = lifetimes.map(() => 0)
  /** By offset. */
  const placed: number[] = []
  let total = 0
  for (const i of order) {
    const own = lifetimes[i] as Lifetime
    const size = aligned(own.bytes)
    let offset = 0
    for (const j of placed) {
      const other = lifetimes[j] as Lifetime
      if (other.last < own.first || own.last < other.first) continue
      const start = offsets[j] as number
      if (offset + size <= start) break
      offset = Math.max(offset, start + aligned(other.bytes))
    }
    offsets[i] = offset
    total = Math.max(total, offset + size)
    const at = placed.findIndex((j) => (offsets[j] as number) > offset)
    placed.splice(at === -1 ? placed.length : at, 0, i)
  }
  return { offsets, bytes: total }
}

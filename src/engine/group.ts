// Several rows that go on from one prompt and swap their pasts, as the beams of a beam search do.
import assert from 'node:assert/strict'
import type { Copy, Sequence } from './sequence.ts'

export class SequenceGroup<S extends Sequence> {
  readonly sequences: readonly S[]
  /** Whether its rows are taken or reserved, and whether all of them are taken. */
  admitted = false
  forked = false
  /** Positions in which sequences i and j hold the same, from the first on. */
  #common: number[][] = []

  constructor(sequences: readonly S[]) {
    this.sequences = sequences
  }

  admit(): void {
    this.admitted = true
  }

  /** Every member starts from the first, which holds `length` positions. */
  fork(length: number): void {
    this.forked = true
    this.#common = this.sequences.map(() => this.sequences.map(() => length))
  }

  /** Those that have no row yet. */
  waiting(): readonly S[] {
    return this.sequences.filter(({ state }) => state === 'waiting')
  }

  /**
   * Hands out the rows anew, so that a permutation copies nothing: the first sequence that goes on from a parent takes over
   * its row (the parent itself before all others), every further one the row of a parent that nobody goes on from.
   * `length`: positions that each row holds. Answers what is to be copied.
   */
  reorder(parents: readonly number[], length: number): Copy[] {
    const { sequences } = this
    const rows = sequences.map(({ row }) => row)
    assert.ok(rows.every((row) => row >= 0) && parents.every((parent) => parent in rows))
    const heirs = new Map<number, number>()
    parents.forEach((parent, i) => {
      if (!heirs.has(parent) || parent === i) heirs.set(parent, i)
    })
    const free = sequences.map((_, parent) => parent).filter((parent) => !heirs.has(parent))
    const copies: Copy[] = []
    parents.forEach((parent, i) => {
      const sequence = sequences[i] as S
      if (heirs.get(parent) === i) {
        sequence.row = rows[parent] as number
        return
      }
      // Of the rows that are free, the one with most in common.
      const common = (other: number): number => this.#common[parent]?.[other] as number
      const slot = free.reduce((best, other) => (common(other) > common(best) ? other : best), free[0] as number)
      free.splice(free.indexOf(slot), 1)
      sequence.row = rows[slot] as number
      const since = Math.min(common(slot), length)
      copies.push({ from: rows[parent] as number, to: sequence.row, since, until: length })
    })
    const before = this.#common
    this.#common = parents.map((p) => parents.map((q) => (p === q ? length : (before[p]?.[q] as number))))
    return copies
  }
}

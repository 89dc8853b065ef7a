// Which sequences run next. Pure bookkeeping: no clock, no device, no promise.
import assert from 'node:assert/strict'
import type { Batch, Move, Sequence, SequenceState } from './sequence.ts'

export interface SchedulerLimits {
  /** Sequences side by side: rows of the KV cache. */
  readonly rowsMax: number
  /** Tokens of one prefill step, padding included: rows · longest piece. Bounds how long decoding rows are held up. */
  readonly prefillTokensMax: number
  /** Sequences in line. */
  readonly waitingMax: number
}

/**
 * First come, first served. Rows in use are 0..n-1: the decoding ones first, then at most one whose prompt was read in
 * in part. Prefill and decode steps take turns where there is work for both, so that neither starves.
 */
export class Scheduler<S extends Sequence = Sequence> {
  readonly #limits: SchedulerLimits
  readonly #waiting: S[] = []
  /** Sequence of each row; null where one has left since the last step. */
  readonly #rows: (S | null)[] = []
  #lastPhase: Batch['phase'] = 'decode'

  constructor(limits: SchedulerLimits) {
    assert.ok(limits.rowsMax >= 1 && limits.prefillTokensMax >= 1 && limits.waitingMax >= 1)
    this.#limits = limits
  }

  get waiting(): number {
    return this.#waiting.length
  }

  get running(): number {
    return this.#rows.filter((sequence) => sequence !== null).length
  }

  /** Puts all of `sequences` in line; false, and none of them, when the line has no room for all. */
  add(sequences: readonly S[]): boolean {
    if (this.#waiting.length + sequences.length > this.#limits.waitingMax) return false
    for (const sequence of sequences) {
      assert.ok(sequence.prompt.length >= 1 && sequence.state === 'waiting')
      this.#waiting.push(sequence)
    }
    return true
  }

  /** The next step, or null when there is nothing to run. Each batch must be answered by `advance` or by `finish` of all. */
  next(): Batch<S> | null {
    const moves = this.#closeRanks()
    const batch =
      this.#lastPhase === 'decode'
        ? (this.#nextPrefill(moves) ?? this.#nextDecode(moves))
        : (this.#nextDecode(moves) ?? this.#nextPrefill(moves))
    assert.ok(batch !== null || moves.length === 0)
    this.#lastPhase = batch?.phase ?? 'decode'
    return batch
  }

  /** Records that `batch` has run. Afterwards the sequences in the state `decoding` are the ones to sample for. */
  advance(batch: Batch<S>): void {
    if (batch.phase === 'decode') return
    batch.sequences.forEach((sequence, i) => {
      if (sequence.state !== 'prefilling') return
      sequence.prefilled += batch.tokens[i]?.length ?? 0
      assert.ok(sequence.prefilled <= sequence.prompt.length)
      if (sequence.prefilled === sequence.prompt.length) this.#enter(sequence, 'decoding')
    })
  }

  /** Lets a sequence go in whatever state it is: done, cancelled or failed. Its row or its place in line is free. */
  finish(sequence: S): void {
    if (sequence.state === 'finished') return
    if (sequence.state === 'waiting') {
      const place = this.#waiting.indexOf(sequence)
      if (place >= 0) this.#waiting.splice(place, 1)
    } else {
      assert.equal(this.#rows[sequence.row], sequence)
      this.#rows[sequence.row] = null
      sequence.row = -1
    }
    this.#enter(sequence, 'finished')
  }

  #nextPrefill(moves: readonly Move[]): Batch<S> | null {
    const budget = this.#limits.prefillTokensMax
    const sequences: S[] = []
    const seeds: S[] = []
    let width = 0 // The longest piece so far.
    const last = this.#rows.at(-1)
    if (last?.state === 'prefilling') {
      sequences.push(last)
      width = Math.min(last.prompt.length - last.prefilled, budget)
    }
    while (this.#rows.length < this.#limits.rowsMax) {
      const candidate = this.#waiting[0]
      if (candidate === undefined) break
      const length = candidate.prompt.length
      // The first may be longer than the budget and is read in pieces, alone; the others join only as a whole.
      if (sequences.length > 0 && (sequences.length + 1) * Math.max(width, length) > budget) break
      width = Math.max(width, Math.min(length, budget))
      this.#waiting.shift()
      candidate.row = this.#rows.push(candidate) - 1
      this.#enter(candidate, 'prefilling')
      sequences.push(candidate)
      seeds.push(candidate)
    }
    const first = sequences[0]
    if (first === undefined) return null
    const tokens = sequences.map(({ prompt, prefilled }) => prompt.slice(prefilled, prefilled + budget))
    return { phase: 'prefill', rows: this.#rows.length, moves, seeds, start: first.row, sequences, tokens }
  }

  #nextDecode(moves: readonly Move[]): Batch<S> | null {
    const sequences = this.#rows.filter((sequence): sequence is S => sequence?.state === 'decoding')
    if (sequences.length === 0) return null
    const tokens = sequences.map(({ output }) => {
      const token = output.at(-1)
      assert.ok(token !== undefined, 'a decoding sequence has been sampled for')
      return [token]
    })
    return { phase: 'decode', rows: this.#rows.length, moves, seeds: [], start: 0, sequences, tokens }
  }

  /** Fills the rows that were left with the last ones in use, and says which rows to copy for that. */
  #closeRanks(): Move[] {
    const rows = this.#rows
    const moves: Move[] = []
    const settle = (sequence: S, row: number): void => {
      if (sequence.row !== row) moves.push({ from: sequence.row, to: row })
      sequence.row = row
      rows[row] = sequence
    }
    // The one that is being read in stays behind the decoding ones.
    const partial = rows.at(-1)?.state === 'prefilling' ? rows.pop() : null
    for (let row = 0; row < rows.length; row++) {
      while (rows.length > row && rows.at(-1) === null) rows.pop()
      if (row < rows.length && rows[row] === null) settle(rows.pop() as S, row)
    }
    if (partial) settle(partial, rows.length)
    return moves
  }

  #enter(sequence: S, state: SequenceState): void {
    sequence.state = state
  }
}

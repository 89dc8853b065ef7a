// Which sequences run next. Pure bookkeeping: no clock, no device, no promise.
import assert from 'node:assert/strict'
import { FairQueue } from './fair-queue.ts'
import { SequenceGroup } from './group.ts'
import { PieceRoom, sourceTokensMax } from './piece-room.ts'
import { commonLength, RowContents } from './row-contents.ts'
import type { Batch, BatchPart, Copy, Sequence } from './sequence.ts'

export interface SchedulerLimits {
  /** Sequences side by side: rows of the KV cache. */
  readonly rowsMax: number
  /** Prompt tokens of one step, padding included: rows · longest piece. */
  readonly prefillTokensMax: number
  /** Sequences in line. */
  readonly waitingMax: number
}

/** Tokens that each of the rows tries; null: none. */
export type Draft<S extends Sequence> = (rows: readonly S[]) => readonly (readonly number[])[] | null

/** A prompt waits for another that is being read if that spares it half of its tokens, and at least so many. */
const sharedTokensMin = 4
/** Sources are read together while no more rows decode than so many for each sequence in line. */
const burstShare = 4
/** Contents of a free row that are no longer than this are kept in any case. */
const keptMin = 128

/**
 * Rows in use are 0..n-1: the decoding ones first, then at most one whose prompt was read in in part. Each step carries all
 * that decode and a piece of the prompts that are next in line. A newcomer starts from what a row holds of its beginning.
 */
export class Scheduler<S extends Sequence = Sequence> {
  readonly #limits: SchedulerLimits
  readonly #line = new FairQueue<S>()
  readonly #contents: RowContents
  /** Sequence of each row; null where one has left since the last step. */
  readonly #rows: (S | null)[] = []
  readonly #groups = new Map<S, SequenceGroup<S>>()
  /** Members of groups on their way into a row of their own, and whose row they start from. */
  #forks: { readonly sequence: S; readonly from: S }[] = []
  /** Rows kept for members of groups that are still reading their prompt. */
  #reserved = 0
  /** For the next batch. */
  #copies: Copy[] = []
  #reusedTokens = 0

  constructor(limits: SchedulerLimits) {
    assert.ok(limits.rowsMax >= 1 && limits.prefillTokensMax >= 1 && limits.waitingMax >= 1)
    this.#limits = limits
    this.#contents = new RowContents(limits.rowsMax)
  }

  get waiting(): number {
    return this.#line.length
  }

  get running(): number {
    return this.#rows.filter((sequence) => sequence !== null).length + this.#forks.length
  }

  get decoding(): number {
    return this.#rows.filter((sequence) => sequence?.state === 'decoding').length + this.#forks.length
  }

  /** Prompt tokens that were not read, because a row held them. */
  get reusedTokens(): number {
    return this.#reusedTokens
  }

  /** Puts all of `sequences` in line; false, and none of them, when the line has no room for all. */
  add(sequences: readonly S[]): boolean {
    if (this.#line.length + sequences.length > this.#limits.waitingMax) return false
    for (const sequence of sequences) {
      assert.ok(sequence.prompt.length >= 1 && sequence.state === 'waiting')
      this.#line.push(sequence)
    }
    return true
  }

  /**
   * Puts one prompt in line for several rows, which it gets all at once or not at all. The first sequence alone reads it; the
   * others get their rows by the first `reorder`. They take one place in line. At most rowsMax of them.
   */
  addGroup(sequences: readonly S[]): boolean {
    assert.ok(sequences.length <= this.#limits.rowsMax, `${sequences.length} rows of ${this.#limits.rowsMax}`)
    const [first] = sequences
    if (first === undefined || !this.add([first])) return false
    const group = new SequenceGroup(sequences)
    for (const sequence of sequences) this.#groups.set(sequence, group)
    return true
  }

  /**
   * From the next step on sequence i of the group goes on from what sequence `parents[i]` held. To be called between `advance`
   * and `next`, when all of them that have a row hold as many positions. What nobody goes on from makes room.
   */
  reorder(first: S, parents: readonly number[]): void {
    const group = this.#groups.get(first)
    assert.ok(group !== undefined && parents.length === group.sequences.length)
    if (!group.forked) {
      assert.ok(parents.every((parent) => parent === 0) && first.state === 'decoding')
      group.fork(this.#contents.length(first.row))
      for (const sequence of group.sequences.slice(1)) {
        sequence.state = 'decoding'
        sequence.prefilled = sequence.prompt.length
        this.#forks.push({ sequence, from: first })
        this.#reserved--
      }
      return
    }
    const copies = group.reorder(parents, this.#contents.length(first.row))
    for (const sequence of group.sequences) this.#rows[sequence.row] = sequence
    for (const copy of copies) this.#copy(copy)
  }

  /**
   * The next step, or null when there is nothing to run; it carries at most `pieceTokens` of prompts. While many wait sources may
   * take more: they are read whole in any case, so those who decode wait as long in all, and a burst is read faster together.
   * Where it carries no prompt, `draft` may say what each of its rows tries beside its last token.
   * Each batch must be answered by `advance` or by `finish` of all.
   */
  next(pieceTokens: number = this.#limits.prefillTokensMax, draft: Draft<S> = () => null): Batch<S> | null {
    const budget = Math.max(1, Math.min(pieceTokens, this.#limits.prefillTokensMax))
    this.#closeRanks()
    const decoding = this.#rows.filter((sequence): sequence is S => sequence?.state === 'decoding')
    const isBurst = decoding.length <= burstShare * this.#line.length
    const room = new PieceRoom(budget, isBurst ? Math.max(budget, sourceTokensMax) : budget)
    const { prefill, seeds } = this.#nextPrefill(budget, room)
    const decode = decoding.length === 0 ? null : decodePart(decoding, prefill === null ? draft(decoding) : null)
    const forgotten = this.#forget()
    const copies = this.#copies
    this.#copies = []
    return decode === null && prefill === null
      ? null
      : { rows: this.#rows.length, forgotten, copies, seeds, decode, prefill }
  }

  /** Records that `batch` has run. Afterwards the sequences in the state `decoding` are the ones to sample for. */
  advance(batch: Batch<S>): void {
    for (const part of [batch.decode, batch.prefill]) {
      part?.sequences.forEach((sequence, i) => {
        const tokens = part.tokens[i] as readonly number[]
        if (part === batch.decode) this.#line.charge(sequence, tokens.length)
        if (sequence.row >= 0) this.#contents.append(sequence.row, tokens)
        if (sequence.state !== 'prefilling') return
        sequence.prefilled += tokens.length
        assert.ok(sequence.prefilled <= sequence.prompt.length)
        if (sequence.prefilled === sequence.prompt.length) sequence.state = 'decoding'
      })
    }
  }

  /** Takes back the last `count` tokens of a row: drafts that did not come true. To be called between `advance` and `next`. */
  retract(sequence: S, count: number): void {
    const { row } = sequence
    const until = this.#contents.length(row) - count
    this.#copy({ from: row, to: row, since: until, until })
    this.#line.charge(sequence, -count)
  }

  /** Lets a sequence go in whatever state it is: done, cancelled or failed. Its row or its place in line is free. */
  finish(sequence: S): void {
    if (sequence.state === 'finished') return
    this.#line.remove(sequence)
    this.#forks = this.#forks.filter((fork) => fork.sequence !== sequence)
    if (sequence.row >= 0) {
      assert.equal(this.#rows[sequence.row], sequence)
      this.#rows[sequence.row] = null
      sequence.row = -1
    }
    const wasWaiting = sequence.state === 'waiting'
    sequence.state = 'finished'
    const group = this.#groups.get(sequence)
    if (group === undefined) return
    this.#groups.delete(sequence)
    // Those that wait for a row of their own have nothing to start from any more when the first leaves.
    if (sequence === group.sequences[0]) for (const other of group.waiting()) this.finish(other)
    else if (wasWaiting && group.admitted) this.#reserved--
  }

  /** After a step that failed, and all in it were finished: what it was to write is not there, so free rows are started anew. */
  distrust(): void {
    for (let row = 0; row < this.#limits.rowsMax; row++) if (!this.#rows[row]) this.#contents.forget(row)
  }

  #nextPrefill(budget: number, room: PieceRoom): { prefill: BatchPart<S> | null; seeds: S[] } {
    const sequences: S[] = []
    const seeds: S[] = []
    const last = this.#rows.at(-1)
    if (last?.state === 'prefilling') {
      sequences.push(last)
      room.take(last.prompt.length - last.prefilled, 0)
    }
    for (;;) {
      const candidate = this.#line.peek(this.#rows)
      if (candidate === null) break
      const group = this.#groups.get(candidate)
      const wanted = group?.sequences.length ?? 1
      if (this.#rows.length + this.#reserved + wanted > this.#limits.rowsMax) break
      const row = this.#rows.length
      const found = this.#contents.find(candidate.prompt, candidate.seedKey, row)
      if (this.#isComing(candidate, found?.shared ?? 0)) break
      const length = candidate.prompt.length - (found?.shared ?? 0)
      const sourceLength = found === null ? (candidate.source?.tokens.length ?? 0) : 0
      if (!room.take(length, sourceLength)) break
      this.#line.remove(candidate)
      // At once, as the next in line is chosen by it.
      this.#line.charge(candidate, length + sourceLength)
      this.#reserved += wanted - 1
      group?.admit()
      this.#rows.push(candidate)
      candidate.row = row
      candidate.state = 'prefilling'
      if (found === null) seeds.push(candidate)
      else {
        candidate.prefilled = found.shared
        this.#reusedTokens += found.shared
        // Where the row itself holds it, the rest is cut off.
        this.#copy({ from: found.from, to: row, since: found.from === row ? found.until : 0, until: found.until })
      }
      sequences.push(candidate)
    }
    // Only now: they are seeded after the copies of this step.
    for (const { row, seedKey, past, source } of seeds) {
      this.#contents.seed(row, seedKey, past?.length ?? 0, source !== undefined)
    }
    const first = sequences[0]
    if (first === undefined) return { prefill: null, seeds }
    const tokens = sequences.map(({ prompt, prefilled }) => prompt.slice(prefilled, prefilled + budget))
    return { prefill: { start: first.row, sequences, tokens }, seeds }
  }

  /** Whether a prompt that is being read, or is to be in this step, has much in common with the candidate's: worth a step's wait. */
  #isComing({ prompt, seedKey }: S, shared: number): boolean {
    const least = Math.max(sharedTokensMin, prompt.length / 2)
    return this.#rows.some((other) => {
      if (other?.state !== 'prefilling' || other.seedKey !== seedKey) return false
      return commonLength(other.prompt, prompt, prompt.length - 1) - shared >= least
    })
  }

  #copy(copy: Copy): void {
    this.#copies.push(copy)
    this.#contents.copy(copy)
  }

  /** Fills the rows that were left with the last ones in use, and gives members of groups their rows. */
  #closeRanks(): void {
    const rows = this.#rows
    const settle = (sequence: S, row: number): void => {
      const from = sequence.row
      if (from !== row) {
        this.#copy({ from, to: row, since: 0, until: this.#contents.length(from) })
        this.#contents.forget(from)
      }
      sequence.row = row
      rows[row] = sequence
    }
    while (rows.length > 0 && rows.at(-1) === null) rows.pop()
    // The one that is being read in stays behind the decoding ones.
    const partial = rows.at(-1)?.state === 'prefilling' ? rows.pop() : null
    for (let row = 0; row < rows.length; row++) {
      while (rows.length > row && rows.at(-1) === null) rows.pop()
      if (row < rows.length && rows[row] === null) settle(rows.pop() as S, row)
    }
    const forks = this.#forks
    this.#forks = []
    if (partial) settle(partial, rows.length + forks.length)
    for (const [i, { sequence, from }] of forks.entries()) {
      sequence.row = partial ? partial.row - forks.length + i : rows.length
      rows[sequence.row] = sequence
      this.#copy({ from: from.row, to: sequence.row, since: 0, until: this.#contents.length(from.row) })
    }
  }

  /** Contents of free rows cost all others time once they are the longest: attention reads as far as the longest row. */
  #forget(): number[] {
    const inUse = this.#rows.length
    const longest = this.#rows.reduce((most, sequence, row) => {
      const toRead = (sequence?.past?.length ?? 0) + (sequence?.prompt.length ?? 0)
      return Math.max(most, toRead, this.#contents.length(row))
    }, keptMin)
    const forgotten: number[] = []
    for (let row = inUse; row < this.#limits.rowsMax; row++) {
      if (this.#contents.length(row) > 0 && this.#contents.length(row) <= longest) continue
      this.#contents.forget(row)
      forgotten.push(row)
    }
    return forgotten
  }
}

function decodePart<S extends Sequence>(
  sequences: readonly S[],
  drafts: readonly (readonly number[])[] | null,
): BatchPart<S> {
  const tokens = sequences.map(({ output }, i) => {
    const token = output.at(-1)
    assert.ok(token !== undefined, 'a decoding sequence has been sampled for')
    return [token, ...(drafts?.[i] ?? [])]
  })
  return { start: 0, sequences, tokens, ...(drafts !== null && { every: true }) }
}

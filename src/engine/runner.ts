// Carries out on a decode session what the scheduler has decided.
import assert from 'node:assert/strict'
import type { DecodeSession, RowOutcome, RowWanted } from '../runtime/runtime.ts'
import { anyToken } from './row-choice.ts'
import { type Batch, type Sequence, sequencesOf } from './sequence.ts'

export class Runner {
  readonly #session: DecodeSession

  constructor(session: DecodeSession) {
    this.#session = session
  }

  /** Puts the rows of the cache in order. If this throws, no row can be trusted any more. */
  arrange(batch: Batch): void {
    for (const { from, to, since, until } of batch.copies) this.#session.copy(from, to, since, until)
    this.#session.release(batch.forgotten)
    for (const { row, past } of batch.seeds) this.#session.seed(row, past)
  }

  /**
   * For each of `sequencesOf(batch)` what comes after its last token, or after every one where that is asked for: logits,
   * [vocabulary], overwritten by the next call; where the session chooses tokens itself, what `wantedOf` asks for.
   */
  async run<S extends Sequence>(batch: Batch<S>, wantedOf: (sequence: S) => RowWanted): Promise<RowOutcome[][]> {
    const { vocabulary } = this.#session
    const sources = batch.seeds.flatMap(({ row, source }) => (source === undefined ? [] : [{ row, source }]))
    if (sources.length > 0) await this.#session.read(sources)
    const parts = [batch.decode, batch.prefill].filter((part) => part !== null)
    const sequences = sequencesOf(batch)
    if (this.#session.choose !== undefined) {
      const unread = unfinished(batch)
      // Nobody looks at what comes after a piece of a prompt.
      const wanted = sequences.map((sequence) => (unread.has(sequence) ? anyToken : wantedOf(sequence)))
      const outcomes = await this.#session.choose(parts, wanted)
      return outcomes.map((outcome) => [outcome])
    }
    const logits = await this.#session.step(parts)
    const counts = parts.flatMap(({ tokens, every }) => tokens.map(({ length }) => (every ? length : 1)))
    let at = 0
    const outcomes = counts.map((count) =>
      Array.from({ length: count }, () => logits.subarray(at * vocabulary, ++at * vocabulary)),
    )
    assert.equal(logits.length, at * vocabulary)
    return outcomes
  }
}

/** Those that have more of their prompt to read after the batch. */
function unfinished<S extends Sequence>({ prefill }: Batch<S>): ReadonlySet<S> {
  const reading = prefill?.sequences ?? []
  const read = (i: number): number => prefill?.tokens[i]?.length ?? 0
  return new Set(reading.filter(({ prompt, prefilled }, i) => prefilled + read(i) < prompt.length))
}

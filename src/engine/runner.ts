// Carries out on a decode session what the scheduler has decided.
import assert from 'node:assert/strict'
import type { DecodeSession } from '../runtime/runtime.ts'
import { type Batch, sequencesOf } from './sequence.ts'

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

  /** The logits after the last token of each of `sequencesOf(batch)`, [vocabulary] each; overwritten by the next call. */
  async run(batch: Batch): Promise<Float32Array[]> {
    const { vocabulary } = this.#session
    const parts = [batch.decode, batch.prefill].filter((part) => part !== null)
    const logits = await this.#session.step(parts)
    const sequences = sequencesOf(batch)
    assert.equal(logits.length, sequences.length * vocabulary)
    return sequences.map((_, i) => logits.subarray(i * vocabulary, (i + 1) * vocabulary))
  }
}

// Carries out on a decode session what the scheduler has decided.
import assert from 'node:assert/strict'
import type { DecodeSession } from '../runtime/runtime.ts'
import type { Batch } from './sequence.ts'

export class Runner {
  readonly #session: DecodeSession

  constructor(session: DecodeSession) {
    this.#session = session
  }

  /** Puts the rows of the cache in order. If this throws, no row can be trusted any more. */
  arrange(batch: Batch): void {
    for (const { from, to } of batch.moves) this.#session.move(from, to)
    this.#session.trim(batch.rows)
    for (const { row, past } of batch.seeds) this.#session.seed(row, past)
  }

  /** The logits after the last token of each sequence, [vocabulary] each; they are overwritten by the next call. */
  async run(batch: Batch): Promise<Float32Array[]> {
    const { vocabulary } = this.#session
    const logits = await this.#session.extend(batch.start, batch.tokens)
    assert.equal(logits.length, batch.sequences.length * vocabulary)
    return batch.sequences.map((_, i) => logits.subarray(i * vocabulary, (i + 1) * vocabulary))
  }
}

// Draws the next token of a sequence from a row of logits, as its request asks.
import type { Random } from '../random/random.ts'
import { argmax, draw, keepTopK, keepTopP, penalizeRepetition, scaleTemperature } from './logits.ts'
import type { Decoding } from './request.ts'

export interface Sampled {
  readonly prompt: readonly number[]
  readonly output: readonly number[]
  readonly decoding: Decoding
  /** The stream of this sequence alone, so that its tokens do not hang on what else is in the batch. */
  readonly random: Random
}

export class Sampler {
  /** A copy of the row to work on: the session's buffer stays as it is. */
  readonly #scratch: Float32Array

  constructor(vocabulary: number) {
    this.#scratch = new Float32Array(vocabulary)
  }

  sample({ prompt, output, decoding, random }: Sampled, logits: Float32Array): number {
    const greedy = decoding.strategy === 'greedy'
    if (greedy && decoding.repetitionPenalty === 1) return argmax(logits)
    const row = this.#scratch
    row.set(logits)
    if (decoding.repetitionPenalty !== 1) {
      penalizeRepetition(row, decoding.repetitionPenalty, [...prompt, ...output])
    }
    if (greedy) return argmax(row)
    // The order is that of Hugging Face transformers.
    if (decoding.temperature !== 1) scaleTemperature(row, decoding.temperature)
    if (decoding.topK > 0) keepTopK(row, decoding.topK)
    keepTopP(row, decoding.topP)
    return draw(row, random.next())
  }
}

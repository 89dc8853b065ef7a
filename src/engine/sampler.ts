// Chooses the next token of a sequence from a row of logits, as its request asks, and says how probable it was.
import type { Random } from '../random/random.ts'
import { Candidates } from './candidates.ts'
import { applyRules, type History, type LogitRules } from './logit-rules.ts'
import type { Decoding } from './request.ts'
import { argmax, largestTokens, logSoftmax, logSumExp } from './softmax.ts'

export interface Sampled extends History {
  readonly decoding: Pick<Decoding, 'strategy' | 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP'>
  /** null: none. */
  readonly rules: LogitRules | null
  /** The stream of this sequence alone, so that its tokens do not hang on what else is in the batch. */
  readonly random: Random
}

/** How probable a token was by the model itself, before rules, temperature and filters; in nats. */
export interface Score {
  readonly token: number
  readonly logprob: number
  /** The most probable tokens in its place, the best first. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[]
}

export class Sampler {
  /** A copy of the row for the rules to work on: the session's buffer stays as it is. */
  readonly #scratch: Float32Array
  readonly #candidates: Candidates
  /** A row for each beam of the search that is scored. */
  readonly #beams: Float32Array[] = []

  constructor(vocabulary: number) {
    this.#scratch = new Float32Array(vocabulary)
    this.#candidates = new Candidates(vocabulary)
  }

  sample(sequence: Sampled, logits: Float32Array): number {
    const { decoding, rules, random } = sequence
    let row = logits
    if (rules !== null) {
      row = this.#scratch
      row.set(logits)
      applyRules(rules, sequence, row)
    }
    if (decoding.strategy === 'greedy') return argmax(row)
    this.#filter(decoding, row)
    return this.#candidates.draw(random.next())
  }

  /** `top` alternatives, which may have the token itself among them. */
  score(logits: Float32Array, token: number, top: number): Score {
    const normalizer = logSumExp(logits)
    const scoreOf = (each: number) => ({ token: each, logprob: (logits[each] as number) - normalizer })
    return { ...scoreOf(token), top: top === 0 ? [] : largestTokens(logits, top).map(scoreOf) }
  }

  /**
   * What beam search adds up, for beam `beam` of a search, there until that beam of any search is scored again:
   * log-probabilities changed by the rules and not normalized anew, as `generate` in transformers does it.
   */
  beamScores(rules: LogitRules | null, history: History, logits: Float32Array, beam: number): Float32Array {
    const target = (this.#beams[beam] ??= new Float32Array(this.#scratch.length))
    logSoftmax(logits, target)
    if (rules !== null) applyRules(rules, history, target)
    return target
  }

  /** In the order of transformers: temperature, top-k, top-p, min-p, typical. */
  #filter({ temperature, topK, topP, minP, typicalP }: Sampled['decoding'], row: Float32Array): void {
    const candidates = this.#candidates
    candidates.start(row, temperature)
    if (topK > 0) candidates.keepTopK(topK)
    candidates.keepTopP(topP)
    candidates.keepMinP(minP)
    candidates.keepTypical(typicalP)
  }
}

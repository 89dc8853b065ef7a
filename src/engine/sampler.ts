// Chooses the next token of a sequence from a row of logits, as its request asks, and says how probable it was.
import assert from 'node:assert/strict'
import type { Random } from '../random/random.ts'
import type { RowOutcome, ScoredToken } from '../runtime/runtime.ts'
import { Candidates } from './candidates.ts'
import { forcedToken, type History, type LogitRules } from './logit-rules.ts'
import type { Decoding } from './request.ts'
import { RowPasses } from './row-passes.ts'
import { applyRules } from './rule-changes.ts'

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
  readonly top: readonly ScoredToken[]
}

export class Sampler {
  /** Has a copy of the row, for the rules to work on: the session's buffer stays as it is. */
  readonly #passes: RowPasses
  readonly #candidates: Candidates
  /** A row for each beam of the search that is scored. */
  readonly #beams: Float32Array[] = []

  constructor(vocabulary: number) {
    this.#passes = new RowPasses(vocabulary)
    this.#candidates = new Candidates(this.#passes)
  }

  sample(sequence: Sampled, logits: Float32Array): number {
    const { decoding, rules, random } = sequence
    const passes = this.#passes
    passes.logits.set(logits)
    if (rules !== null) applyRules(rules, sequence, passes.logits)
    if (decoding.strategy === 'greedy') return passes.argmax()
    this.#filter(decoding)
    return this.#candidates.draw(random.next())
  }

  /** `top` alternatives, which may have the token itself among them. */
  score(logits: Float32Array, token: number, top: number): Score {
    const passes = this.#passes
    passes.logits.set(logits)
    const normalizer = passes.logSumExp()
    const scoreOf = (each: number) => ({ token: each, logprob: (logits[each] as number) - normalizer })
    return { ...scoreOf(token), top: passes.largestTokens(top).map(scoreOf) }
  }

  /**
   * What beam search adds up, for beam `beam` of a search, there until that beam of any search is scored again:
   * log-probabilities changed by the rules and not normalized anew, as `generate` in transformers does it. Of a row of which the
   * best tokens came, the others count as impossible; where a token is forced, nothing is looked at.
   */
  beamScores(rules: LogitRules | null, history: History, row: RowOutcome, beam: number): Float32Array {
    const passes = this.#passes
    const target = (this.#beams[beam] ??= new Float32Array(passes.logits.length))
    if (row instanceof Float32Array) {
      passes.logits.set(row)
      const normalizer = passes.logSumExp()
      for (let i = 0; i < row.length; i++) target[i] = (row[i] as number) - normalizer
    } else if ('scores' in row) {
      const { tokens, scores } = row
      target.fill(-Infinity)
      for (let i = 0; i < tokens.length; i++) target[tokens[i] as number] = scores[i] as number
      return target
    } else assert.ok(rules !== null && forcedToken(rules, history) !== null, 'a search needs more than one token')
    if (rules !== null) applyRules(rules, history, target)
    return target
  }

  /** In the order of transformers: temperature, top-k, top-p, min-p, typical. */
  #filter({ temperature, topK, topP, minP, typicalP }: Sampled['decoding']): void {
    const candidates = this.#candidates
    candidates.start(temperature)
    if (topK > 0) candidates.keepTopK(topK)
    candidates.keepTopP(topP)
    candidates.keepMinP(minP)
    candidates.keepTypical(typicalP)
  }
}

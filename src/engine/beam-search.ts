// Beam search over the log-probabilities of each step: which beams go on, and which texts were the best. Knows no device.
import assert from 'node:assert/strict'

export interface BeamOptions {
  /** Texts that are gone on with side by side. */
  readonly beams: number
  /** The sum of log-probabilities is divided by length^lengthPenalty; prompts do not count. */
  readonly lengthPenalty: number
  /**
   * true: ends when as many texts as beams have ended. false: ends when no beam seems able to better the worst of those, by its
   * score at its present length. never: by the best score that it may yet have.
   */
  readonly earlyStopping: boolean | 'never'
  readonly maxNewTokens: number
  readonly endOfText: number
  /** Whether a text ends with its last token for another reason than end-of-text or length, such as a stop text. */
  readonly ends?: (tokens: readonly number[]) => boolean
}

export interface Beam {
  /** Made so far, without the prompt. */
  readonly tokens: readonly number[]
  /** Sum of log-probabilities; of a text that has ended, divided as `lengthPenalty` says. */
  readonly score: number
}

/** Row i goes on from what row `parents[i]` held, with `tokens[i]`. */
export interface BeamStep {
  readonly parents: readonly number[]
  readonly tokens: readonly number[]
}

interface Candidate extends Beam {
  readonly parent: number
  readonly token: number
  readonly ends: boolean
}

interface Finished extends Beam {
  /** False of places that no text has taken yet. */
  readonly ended: boolean
}

/** As far below any score as transformers puts what must not be chosen. */
const nowhere = -1e9

/**
 * Token for token that of `_beam_search` in Hugging Face transformers 5.23: of twice as many candidates as beams the best
 * that have not ended go on, and those among the first `beams` that have ended compete for the places of the best texts.
 * Scores are float32, as there.
 */
export class BeamSearch {
  readonly #options: BeamOptions
  #live: readonly Beam[]
  #finished: readonly Finished[]
  #improvable = true
  #done = false
  /** Tokens of each live beam. */
  #length = 0

  constructor(options: BeamOptions) {
    assert.ok(options.beams >= 1 && options.maxNewTokens >= 1)
    this.#options = options
    const places = Array.from({ length: options.beams }, (_, i) => i)
    // At first all beams are the prompt, and only the first may go on, or all would be the same for ever.
    this.#live = places.map((i) => ({ tokens: [], score: i === 0 ? 0 : nowhere }))
    this.#finished = places.map(() => ({ tokens: [], score: nowhere, ended: false }))
  }

  get done(): boolean {
    return this.#done
  }

  /** Those that go on; before the first step the prompt alone. */
  get live(): readonly Beam[] {
    return this.#length === 0 ? this.#live.slice(0, 1) : this.#live
  }

  /**
   * Takes the log-probabilities of the next token, [vocabulary] for each of `live`, rules applied. null: the search is done,
   * and `best` has what it found. At the first step the prompt's row is the parent of all.
   */
  step(logProbs: readonly Float32Array[]): BeamStep | null {
    assert.ok(!this.#done && logProbs.length === this.live.length)
    const candidates = this.#candidates(logProbs)
    this.#length++
    // Those that have ended come last, and only if there are too few others.
    const running = candidates.map((each) => ({ ...each, score: each.ends ? float(each.score + nowhere) : each.score }))
    const next = best(running, this.#options.beams)
    this.#live = next.map(({ tokens, score }) => ({ tokens, score }))
    this.#finish(candidates)
    this.#look()
    this.#done = !this.#improvable || this.#full() || candidates.every(({ ends }) => ends)
    if (this.#done) return null
    return { parents: next.map(({ parent }) => parent), tokens: next.map(({ token }) => token) }
  }

  /** The best texts, the best first, end-of-text included; fewer than `count` only where every other token was forbidden. */
  best(count: number): readonly Beam[] {
    assert.ok(this.#done && count <= this.#options.beams)
    return this.#finished.filter(({ ended }) => ended).slice(0, count)
  }

  /** The best 2 · beams continuations of all beams, the best first; of equals the first beam's and the lower token. */
  #candidates(logProbs: readonly Float32Array[]): Candidate[] {
    const { beams, endOfText, maxNewTokens, ends } = this.#options
    const found: { parent: number; token: number; score: number }[] = []
    for (const [beam, { score: before }] of this.#live.entries()) {
      const parent = Math.min(beam, logProbs.length - 1)
      const row = logProbs[parent] as Float32Array
      let floor = found.length < 2 * beams ? -Infinity : (found.at(-1)?.score as number)
      for (let token = 0; token < row.length; token++) {
        const score = float((row[token] as number) + before)
        if (!(score > floor) && found.length === 2 * beams) continue
        let at = found.length
        while (at > 0 && (found[at - 1]?.score as number) < score) at--
        found.splice(at, 0, { parent, token, score })
        if (found.length > 2 * beams) found.pop()
        if (found.length === 2 * beams) floor = found.at(-1)?.score as number
      }
    }
    return found.map(({ parent, token, score }) => {
      const tokens = [...(this.#live[parent] as Beam).tokens, token]
      const over = token === endOfText || tokens.length >= maxNewTokens || ends?.(tokens) === true
      return { parent, token, score, tokens, ends: over }
    })
  }

  #finish(candidates: readonly Candidate[]): void {
    const { beams, lengthPenalty, earlyStopping } = this.#options
    const divisor = this.#length ** lengthPenalty
    const closed = (earlyStopping === true && this.#finished.every(({ ended }) => ended)) || !this.#improvable
    const ended = candidates.map(({ tokens, score, ends }, i) => {
      const counts = ends && i < beams
      const own = float(score / divisor)
      return { tokens, score: float(own + (closed ? nowhere : 0) + (counts ? 0 : nowhere)), ended: counts }
    })
    this.#finished = best([...this.#finished, ...ended], beams)
  }

  /** Whether the best beam may yet better the worst text: once it may not, it never may again. */
  #look(): void {
    const { lengthPenalty, earlyStopping, maxNewTokens } = this.#options
    const length = earlyStopping === 'never' && lengthPenalty > 0 ? maxNewTokens : this.#length
    const possible = float((this.#live[0] as Beam).score / length ** lengthPenalty)
    const worst = Math.min(...this.#finished.map(({ score }) => score))
    this.#improvable &&= this.#finished.some(({ ended }) => possible > (ended ? worst : nowhere))
  }

  #full(): boolean {
    return this.#options.earlyStopping === true && this.#finished.every(({ ended }) => ended)
  }
}

/** The `count` with the highest scores, of equals the first first. */
function best<T extends { readonly score: number }>(items: readonly T[], count: number): T[] {
  return items.toSorted((a, b) => b.score - a.score || 0).slice(0, count)
}

const float = Math.fround

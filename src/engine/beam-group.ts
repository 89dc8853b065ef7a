// One input's beam search in flight: a row for each beam, and the texts that it ends with.
import type { RowOutcome } from '../runtime/runtime.ts'
import { BeamSearch } from './beam-search.ts'
import { Continuation, type Generation } from './generation.ts'
import type { Prompt } from './prompt.ts'
import type { Sampler } from './sampler.ts'

export class BeamGroup {
  /** One for each beam. The first reads the prompt; the others have no logits before the second step. */
  readonly rows: readonly Continuation[]
  readonly #generation: Generation
  readonly #index: number
  readonly #prompt: Prompt
  readonly #search: BeamSearch
  #texts: readonly Continuation[] | null = null

  /** `index` is that of the input. */
  constructor(generation: Generation, index: number, prompt: Prompt) {
    const { decoding, maxNewTokens, tokenizer, stop } = generation.parts
    this.#generation = generation
    this.#prompt = prompt
    this.#index = index
    this.rows = Array.from({ length: decoding.beams }, () => new Continuation(generation, index, prompt, 0, this))
    const { endOfText } = tokenizer
    const ends = (tokens: readonly number[]): boolean => {
      const text = tokenizer.decode(tokens)
      return stop.some((each) => text.includes(each))
    }
    this.#search = new BeamSearch({ ...decoding, maxNewTokens, endOfText, ...(stop.length > 0 && { ends }) })
  }

  /** The best texts, the best first, `n` unless every other token was forbidden; null before the end. */
  get texts(): readonly Continuation[] | null {
    return this.#texts
  }

  /**
   * Takes what the step made of each live beam, its logits or its best tokens: at the first step of the first row alone. Answers
   * which row each row goes on from; null at the end.
   */
  step(outcomes: readonly RowOutcome[], sampler: Sampler): readonly number[] | null {
    const { live } = this.#search
    const { tokens: prompt } = this.#prompt
    const scores = live.map(({ tokens }, i) =>
      sampler.beamScores(this.#generation.rules, { prompt, output: tokens }, outcomes[i] as RowOutcome, i),
    )
    const step = this.#search.step(scores)
    // At the end too, when nothing goes on: they are the tokens made.
    this.#search.live.forEach(({ tokens }, i) => {
      this.rows[i]?.output.splice(0, Infinity, ...tokens)
    })
    if (step !== null) return step.parents
    const { n } = this.#generation.parts.decoding
    this.#texts = this.#search.best(n).map(({ tokens }, i) => {
      const text = new Continuation(this.#generation, this.#index * n + i, this.#prompt, 0)
      for (const token of tokens) if (text.accept(token, null)) break
      return text
    })
    return null
  }
}

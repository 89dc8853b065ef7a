// Which tokens the next step tries beside the one that is sure: those that are likely, as many as the step's time is worth.
import { DraftBook } from './draft-book.ts'
import type { Continuation } from './generation.ts'
import { StepCost } from './step-cost.ts'

/** Positions of a step with drafts, at most: beyond it products are bound by arithmetic and a draft costs what a token does. */
const positionsMax = 32
/** Behind what is less likely nothing is looked up: it is hardly ever worth a position. */
const chanceMin = 0.05
/** How many times as many tokens in a time drafts must promise: the best of several estimates promises too much, and looking up takes time too. */
const gainMin = 1.15
/** After so many proposals in a row that were not worth it, as many steps go by before the next. */
const patience = 8
/** What books of all prefixes take together, in bytes; those that were not used for the longest time go first. */
export const booksBytesMax = 32 * 2 ** 20

/** Tokens that may come next, and how probable it is that each of them and all before it do. */
interface Draft {
  readonly tokens: readonly number[]
  readonly chances: readonly number[]
}

/**
 * Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) whose drafts are looked up and not computed. A step of few rows takes the time of
 * reading the weights, and tokens beside the first cost it little. Each token is chosen from the logits of its own place as without drafts, and a draft that is
 * another token is dropped with all behind it: what comes out is the same.
 */
export class Drafter {
  readonly #tokensMax: number
  /** By prefix, the least recently used first. */
  readonly #books = new Map<string | null, DraftBook>()
  readonly #cost = new StepCost()
  /** All that each row has read and made, as far as its book has learnt it. */
  readonly #texts = new WeakMap<Continuation, number[]>()
  /** Proposals in a row that came to nothing, and steps to let go by. */
  #vain = 0
  #pause = 0
  #bytes = 0

  /** At most `tokensMax` tokens for each row; 0: none. */
  constructor(tokensMax: number) {
    this.#tokensMax = tokensMax
  }

  /** Of all books. */
  get bytes(): number {
    return this.#bytes
  }

  /** Drafts for a step of these rows, all of one length where their limits allow it; null: a step without is as fast. */
  propose(sequences: readonly Continuation[]): readonly (readonly number[])[] | null {
    const most = Math.min(this.#tokensMax, Math.floor(positionsMax / sequences.length) - 1)
    // Beams go on from others after each token.
    if (most < 1 || sequences.some(({ group }) => group !== null)) return null
    if (this.#pause > 0) {
      this.#pause -= 1
      return null
    }
    this.learn(sequences)
    const drafts = sequences.map((sequence) => this.#draft(sequence, most))
    const length = this.#worthwhile(drafts, most)
    this.#vain = length === 0 ? this.#vain + 1 : 0
    if (this.#vain >= patience) [this.#vain, this.#pause] = [0, patience]
    return length === 0 ? null : drafts.map(({ tokens }) => tokens.slice(0, length))
  }

  /** Tells what a step took that only decoded: so many positions of rows. */
  observe(positions: number, ms: number): void {
    this.#cost.observe(positions, ms)
  }

  /** Learns what of their tokens was not learnt yet. */
  learn(sequences: readonly Continuation[]): void {
    for (const sequence of sequences) {
      const { prompt, source, output, group } = sequence
      if (this.#tokensMax === 0 || group !== null || output.length === 0) continue
      const text = this.#textOf(sequence)
      const book = this.#book(sequence.prefixId)
      const bytes = book.bytes
      const known = text.length - prompt.length - (source?.tokens.length ?? 0)
      for (const token of output.slice(known)) {
        text.push(token)
        book.learn(text, text.length - 1, isSampled(sequence))
      }
      this.#bytes += book.bytes - bytes
    }
    this.#forget()
  }

  #draft(sequence: Continuation, most: number): Draft {
    const { maxNewTokens, tokenizer } = sequence.generation.parts
    const length = Math.min(most, maxNewTokens - sequence.output.length - 1)
    const book = this.#book(sequence.prefixId)
    const text = this.#textOf(sequence)
    const held = text.length
    const [tokens, chances]: [number[], number[]] = [[], []]
    let chance = 1
    while (tokens.length < length) {
      const guess = chance >= chanceMin ? book.next(text, isSampled(sequence)) : null
      // Where nothing is known any token fills the place, so that steps are of few shapes.
      const token = guess?.token ?? tokenizer.endOfText
      chance *= guess?.chance ?? 0
      tokens.push(token)
      chances.push(chance)
      text.push(token)
      if (token === tokenizer.endOfText) chance = 0
    }
    text.length = held
    return { tokens, chances }
  }

  /** How many tokens of all drafts make the most tokens in a time. */
  #worthwhile(drafts: readonly Draft[], most: number): number {
    let [best, made] = [0, drafts.length]
    let fastest = gainMin * (made / this.#cost.expected(drafts.length))
    for (let length = 1; length <= most; length++) {
      made += drafts.reduce((sum, { chances }) => sum + (chances[length - 1] ?? 0), 0)
      const speed = made / this.#cost.expected(drafts.length * (length + 1))
      if (speed > fastest) [best, fastest] = [length, speed]
    }
    return best
  }

  #book(prefixId: string | null): DraftBook {
    const known = this.#books.get(prefixId)
    const book = known ?? new DraftBook()
    if (known === undefined) this.#bytes += book.bytes
    this.#books.delete(prefixId)
    this.#books.set(prefixId, book)
    return book
  }

  #textOf(sequence: Continuation): number[] {
    const { source, prompt } = sequence
    const text = this.#texts.get(sequence) ?? [...(source?.tokens ?? []), ...prompt]
    this.#texts.set(sequence, text)
    return text
  }

  #forget(): void {
    for (const [prefixId, { bytes }] of this.#books) {
      if (this.#bytes <= booksBytesMax) return
      this.#books.delete(prefixId)
      this.#bytes -= bytes
    }
  }
}

function isSampled({ decoding }: Continuation): boolean {
  return decoding.strategy === 'sample'
}

// Which tokens the next step tries beside the one that is sure: those that are likely, as many as the step's time is worth.
import { DraftBook } from './draft-book.ts'
import type { Continuation } from './generation.ts'
import { StepCost } from './step-cost.ts'

/** Positions of a step with drafts, at most: beyond it products are bound by arithmetic and a draft costs what a token does. */
const positionsMax = 32
/** What books of all prefixes take together, in bytes; those that were not used for the longest time go first. */
const booksBytesMax = 32 * 2 ** 20

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
  /** Tokens of an output that its book knows. */
  readonly #learnt = new WeakMap<Continuation, number>()
  #bytes = 0

  /** At most `tokensMax` tokens for each row; 0: none. */
  constructor(tokensMax: number) {
    this.#tokensMax = tokensMax
  }

  /** Drafts for a step of these rows, all of one length where their limits allow it; null: a step without is as fast. */
  propose(sequences: readonly Continuation[]): readonly (readonly number[])[] | null {
    const most = Math.min(this.#tokensMax, Math.floor(positionsMax / sequences.length) - 1)
    // Beams go on from others after each token.
    if (most < 1 || sequences.some(({ group }) => group !== null)) return null
    const drafts = sequences.map((sequence) => this.#draft(sequence, most))
    const length = this.#worthwhile(drafts, most)
    return length === 0 ? null : drafts.map(({ tokens }) => tokens.slice(0, length))
  }

  /** Tells what a step took that only decoded: so many positions of rows. */
  observe(positions: number, ms: number): void {
    this.#cost.observe(positions, ms)
  }

  /** To be called when these may have tokens that were not learnt yet. */
  learn(sequences: readonly Continuation[]): void {
    for (const sequence of sequences) {
      const { output, group } = sequence
      const known = this.#learnt.get(sequence) ?? 0
      if (this.#tokensMax === 0 || group !== null || output.length <= known) continue
      const text = textOf(sequence)
      const book = this.#book(sequence.prefixId)
      const bytes = book.bytes
      for (let end = text.length - output.length + known; end < text.length; end++)
        book.learn(text, end, isSampled(sequence))
      this.#learnt.set(sequence, output.length)
      this.#bytes += book.bytes - bytes
    }
    this.#forget()
  }

  #draft(sequence: Continuation, most: number): Draft {
    const { maxNewTokens, tokenizer } = sequence.generation.parts
    const length = Math.min(most, maxNewTokens - sequence.output.length - 1)
    const book = this.#book(sequence.prefixId)
    const text = textOf(sequence)
    const [tokens, chances]: [number[], number[]] = [[], []]
    let chance = 1
    while (tokens.length < length) {
      const guess = chance > 0 ? book.next(text, isSampled(sequence)) : null
      // Where nothing is known any token fills the place, so that steps are of few shapes.
      const token = guess?.token ?? tokenizer.endOfText
      chance *= guess?.chance ?? 0
      tokens.push(token)
      chances.push(chance)
      text.push(token)
      if (token === tokenizer.endOfText) chance = 0
    }
    return { tokens, chances }
  }

  /** How many tokens of all drafts make the most tokens in a time. */
  #worthwhile(drafts: readonly Draft[], most: number): number {
    let [best, made] = [0, drafts.length]
    let fastest = made / this.#cost.expected(drafts.length)
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

  #forget(): void {
    for (const [prefixId, { bytes }] of this.#books) {
      if (this.#bytes <= booksBytesMax) return
      this.#books.delete(prefixId)
      this.#bytes -= bytes
    }
  }
}

/** All that the row has read, and what it made. */
function textOf({ source, prompt, output }: Continuation): number[] {
  return [...(source?.tokens ?? []), ...prompt, ...output]
}

function isSampled({ decoding }: Continuation): boolean {
  return decoding.strategy === 'sample'
}

// What one step has room for: prompts, whole or in pieces, and sources, which an encoder reads whole.

/** Tokens of sources in one step, at most, unless one has more: about what runtimes read in one pass. */
export const sourceTokensMax = 1024

export class PieceRoom {
  readonly #tokensMax: number
  readonly #sourceTokensMax: number
  #count = 0
  /** The longest piece of a prompt so far. */
  #width = 0
  #sourceTokens = 0

  /** `tokensMax` is of prompts, padding included: rows · longest piece. */
  constructor(tokensMax: number, ofSources: number) {
    this.#tokensMax = tokensMax
    this.#sourceTokensMax = ofSources
  }

  /**
   * Takes so many tokens of a prompt, and of a source where the row is to read one, if there is room. The first may be longer and
   * is read in pieces, its source whatever its length; the others join only as a whole.
   */
  take(length: number, sourceLength: number): boolean {
    const width = Math.max(this.#width, length)
    const sourceTokens = this.#sourceTokens + sourceLength
    const fits = (this.#count + 1) * width <= this.#tokensMax && sourceTokens <= this.#sourceTokensMax
    if (this.#count > 0 && !fits) return false
    this.#count += 1
    this.#width = Math.min(width, this.#tokensMax)
    this.#sourceTokens = sourceTokens
    return true
  }
}

// Turns tokens into text as they come, never handing out half a character.
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

const REPLACEMENT = '�'

/**
 * Byte-level tokens may end in the middle of a UTF-8 character; its text is held back until the rest has come. The
 * model writes its outputs with one space in front, as it was trained to; that one space is left out.
 */
export class Detokenizer {
  readonly #tokenizer: Pick<Tokenizer, 'decode'>
  /** Tokens since the last end of a character. */
  #pending: number[] = []
  /** UTF-16 units of the pending tokens' text that were handed out. */
  #handedOut = 0
  #atStart = true

  constructor(tokenizer: Pick<Tokenizer, 'decode'>) {
    this.#tokenizer = tokenizer
  }

  /** The text that `token` completes; often its own, sometimes none. */
  push(token: number): string {
    this.#pending.push(token)
    const text = this.#tokenizer.decode(this.#pending)
    let end = text.length
    while (end > 0 && text[end - 1] === REPLACEMENT) end--
    return this.#handOut(text, end)
  }

  /** What is left at the end, unfinished characters as U+FFFD. */
  flush(): string {
    const text = this.#tokenizer.decode(this.#pending)
    return this.#handOut(text, text.length)
  }

  #handOut(text: string, end: number): string {
    const piece = text.slice(this.#handedOut, end)
    this.#handedOut = Math.max(this.#handedOut, end)
    if (end === text.length) {
      this.#pending = []
      this.#handedOut = 0
    }
    if (piece === '' || !this.#atStart) return piece
    this.#atStart = false
    return piece.startsWith(' ') ? piece.slice(1) : piece
  }
}

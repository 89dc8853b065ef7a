// What each row of the KV cache holds, so that a newcomer with the same beginning need not read it again.
import type { Copy } from './sequence.ts'

interface Content {
  /** Names the prefix that the row was started from, and the source that was read for it. */
  readonly seedKey: string
  /** Positions of the prefix. */
  readonly prefixLength: number
  /** Whether a source was read for it, which is worth taking over even where nothing else is. */
  readonly hasSource: boolean
  /** All tokens behind it. */
  readonly tokens: number[]
}

export interface Beginning {
  readonly from: number
  /** Tokens of the prompt that row `from` holds right behind the same prefix. */
  readonly shared: number
  /** Positions to take over, the prefix's included. */
  readonly until: number
}

export class RowContents {
  readonly #rows: (Content | null)[]

  constructor(rowsMax: number) {
    this.#rows = Array.from({ length: rowsMax }, () => null)
  }

  /** Cached positions of a row. */
  length(row: number): number {
    const content = this.#rows[row]
    return content ? content.prefixLength + content.tokens.length : 0
  }

  seed(row: number, seedKey: string, prefixLength: number, hasSource = false): void {
    this.#rows[row] = { seedKey, prefixLength, hasSource, tokens: [] }
  }

  append(row: number, tokens: readonly number[]): void {
    this.#rows[row]?.tokens.push(...tokens)
  }

  copy({ from, to, until }: Copy): void {
    const source = this.#rows[from]
    this.#rows[to] = source ? { ...source, tokens: source.tokens.slice(0, until - source.prefixLength) } : null
  }

  forget(row: number): void {
    this.#rows[row] = null
  }

  /** The row with most of `prompt` behind the same prefix; row `own` where that is as good. At least the last token is left to read. */
  find(prompt: readonly number[], seedKey: string, own: number): Beginning | null {
    let best: Beginning | null = null
    for (const [from, content] of this.#rows.entries()) {
      if (content?.seedKey !== seedKey) continue
      const shared = commonLength(content.tokens, prompt, prompt.length - 1)
      const until = content.prefixLength + shared
      const isBetter = best === null || until > best.until || (until === best.until && from === own)
      if ((until > 0 || content.hasSource) && isBetter) best = { from, shared, until }
    }
    return best
  }
}

/** How many of the first `max` entries are equal. */
export function commonLength(a: readonly number[], b: readonly number[], max: number): number {
  const end = Math.min(a.length, b.length, max)
  let i = 0
  while (i < end && a[i] === b[i]) i++
  return i
}

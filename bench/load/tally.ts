// Counts what came of the requests of all clients, and sums it up.
import { quantile, type Figures } from '../machine.ts'
import type { Exchange } from './exchange.ts'

/** Kept word for word. */
const failuresKept = 20

export class Tally {
  readonly failures: string[] = []
  answered = 0
  left = 0
  overloaded = 0
  failed = 0
  streamed = 0
  tokens = 0
  readonly #wholeMs: number[] = []
  readonly #firstMs: number[] = []
  readonly #betweenMs: number[] = []

  count(exchange: Exchange): void {
    if (exchange.end === 'left') this.left++
    else if (exchange.end === 'overloaded') this.overloaded++
    else if (exchange.end === 'failed') this.fail(exchange.why)
    else {
      this.answered++
      this.tokens += exchange.answer.usage.outputTokens
      const { wholeMs, piecesMs } = exchange.times
      this.#wholeMs.push(wholeMs)
      const [first] = piecesMs
      if (first === undefined) return
      this.streamed++
      this.#firstMs.push(first)
      // Several texts share a stream: the gap is between any two pieces, as the client sees them.
      for (let i = 1; i < piecesMs.length; i++)
        this.#betweenMs.push((piecesMs[i] as number) - (piecesMs[i - 1] as number))
    }
  }

  fail(why: string): void {
    this.failed++
    if (this.failures.length < failuresKept) this.failures.push(why)
  }

  /** Over so many seconds. */
  figures(seconds: number): Figures {
    const { answered, left, overloaded, failed, streamed, tokens } = this
    return {
      seconds,
      answered,
      streamed,
      left,
      overloaded,
      failed,
      requestsPerSecond: answered / seconds,
      tokensPerSecond: tokens / seconds,
      ...percentiles('first', this.#firstMs),
      ...percentiles('between', this.#betweenMs),
      ...percentiles('whole', this.#wholeMs),
    }
  }
}

function percentiles(name: string, values: readonly number[]): Figures {
  if (values.length === 0) return {}
  const sorted = values.toSorted((a, b) => a - b)
  return {
    [`${name}MsP50`]: quantile(sorted, 0.5),
    [`${name}MsP90`]: quantile(sorted, 0.9),
    [`${name}MsP99`]: quantile(sorted, 0.99),
    [`${name}MsMax`]: quantile(sorted, 1),
  }
}

// What one HTTP request came to beside its status: the generations it asked for, told in its log line and its span.
import type { Ended } from './prefix-figures.ts'

/** For the log: ids, numbers and words of ours. Milliseconds are rounded to tenths. */
export interface StoryFields {
  readonly prefix: string | null
  readonly outcome: string
  readonly inputTokens: number
  readonly outputTokens: number
  readonly loadMs?: number
  readonly queueMs?: number
  readonly prefillMs?: number
  readonly decodeMs?: number
}

/** An account of a request that was left comes at the next step; a line in the log does not wait longer. */
const accountMsMax = 2_000

export class RequestStory {
  readonly #ended: Ended[] = []
  #open = 0
  #whenAllEnded: () => void = () => {}

  begin(): void {
    this.#open += 1
  }

  end(ended: Ended): void {
    this.#ended.push(ended)
    this.#open -= 1
    if (this.#open === 0) this.#whenAllEnded()
  }

  /** Calls `tell` once everything is known: at once where it is. */
  whenTold(tell: () => void): void {
    if (this.#open === 0) {
      tell()
      return
    }
    const told = (): void => {
      clearTimeout(timer)
      this.#whenAllEnded = () => {}
      tell()
    }
    const timer = setTimeout(told, accountMsMax).unref()
    this.#whenAllEnded = told
  }

  /** Of several generations: tokens are added up, and of times the longest is told. */
  fields(): StoryFields | null {
    const [first] = this.#ended
    if (first === undefined) return null
    const sum = (of: (ended: Ended) => number): number => this.#ended.reduce((all, each) => all + of(each), 0)
    const times = this.#ended.map(timesOf)
    return {
      prefix: first.prefixId,
      outcome: (this.#ended.find(({ outcome }) => outcome !== 'done') ?? first).outcome,
      inputTokens: sum(({ inputTokens }) => inputTokens),
      outputTokens: sum(({ outputTokens }) => outputTokens),
      ...longest('loadMs', times),
      ...longest('queueMs', times),
      ...longest('prefillMs', times),
      ...longest('decodeMs', times),
    }
  }
}

type Times = Partial<Record<'loadMs' | 'queueMs' | 'prefillMs' | 'decodeMs', number>>

function timesOf({ account }: Ended): Times {
  if (account === null) return {}
  const { lease, queuedMs, startedMs, firstTokenMs, endedMs } = account
  return {
    ...(lease !== null && { loadMs: lease.endMs - lease.startMs }),
    ...(queuedMs !== null && { queueMs: (startedMs ?? endedMs) - queuedMs }),
    ...(startedMs !== null && { prefillMs: (firstTokenMs ?? endedMs) - startedMs }),
    ...(firstTokenMs !== null && { decodeMs: endedMs - firstTokenMs }),
  }
}

function longest(name: keyof Times, times: readonly Times[]): Times {
  const known = times.map((each) => each[name]).filter((ms) => ms !== undefined)
  return known.length === 0 ? {} : { [name]: Math.round(Math.max(...known) * 10) / 10 }
}

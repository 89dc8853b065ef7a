// A decode session whose rows say what scripts say: every step computes what it would, and its answer is the script's next token.
import type { CacheLayout, DecodeSession, Past, SessionPart, SourceRow } from '../src/runtime/runtime.ts'

export interface Script {
  /** No prompt is the beginning of another. */
  readonly prompt: readonly number[]
  readonly output: readonly number[]
}

interface Row {
  readonly pastLength: number
  readonly tokens: number[]
  /** null: its prompt was not read whole yet. */
  script: Script | null
}

/** Far above what models make of seeded weights. */
const certain = 1e4

export class ScriptedSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly tellsEvery: boolean
  readonly #session: DecodeSession
  readonly #scripts: ReadonlyMap<string, Script>
  readonly #promptLengths: ReadonlySet<number>
  readonly #promptMax: number
  readonly #rows = new Map<number, Row>()

  constructor(session: DecodeSession, scripts: readonly Script[]) {
    this.#session = session
    this.layout = session.layout
    this.vocabulary = session.vocabulary
    this.tellsEvery = session.tellsEvery
    this.#scripts = new Map(scripts.map((script) => [script.prompt.join(' '), script]))
    this.#promptLengths = new Set(scripts.map(({ prompt }) => prompt.length))
    this.#promptMax = Math.max(...this.#promptLengths)
  }

  get lengths(): Int32Array {
    return this.#session.lengths
  }

  seed(row: number, past: Past | null): void {
    this.#rows.set(row, { pastLength: past?.length ?? 0, tokens: [], script: null })
    this.#session.seed(row, past)
  }

  read(rows: readonly SourceRow[]): Promise<void> {
    return this.#session.read(rows)
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    const logits = await this.#session.step(parts)
    let at = 0
    for (const { start, tokens, every } of parts) {
      for (const [i, fed] of tokens.entries()) {
        const row = this.#rows.get(start + i) as Row
        for (const [t, token] of fed.entries()) {
          row.tokens.push(token)
          if (!every && t < fed.length - 1) continue
          const next = this.#nextOf(row)
          if (next !== null) logits[at * this.vocabulary + next] = certain
          at += 1
        }
      }
    }
    return logits
  }

  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.#rows.delete(row)
    this.#session.release(rows)
  }

  copy(from: number, to: number, since: number, until: number): void {
    const { pastLength, tokens } = this.#rows.get(from) as Row
    this.#rows.set(to, { pastLength, tokens: tokens.slice(0, until - pastLength), script: null })
    this.#session.copy(from, to, since, until)
  }

  dispose(): Promise<void> {
    return this.#session.dispose()
  }

  /** null where a prompt was not read whole yet, and where the row has left its script, as behind a draft that is wrong. */
  #nextOf(row: Row): number | null {
    for (const length of row.script === null ? this.#promptLengths : [])
      row.script ??= this.#scripts.get(row.tokens.slice(0, length).join(' ')) ?? null
    if (row.script === null) {
      if (row.tokens.length >= this.#promptMax) throw new Error('a row has no script')
      return null
    }
    const { prompt, output } = row.script
    const said = row.tokens.slice(prompt.length)
    return said.every((token, i) => token === output[i]) ? (output[said.length] ?? null) : null
  }
}

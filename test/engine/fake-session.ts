// A decode session without a model: logits are a hash of all that a row holds, so that any mistake with rows shows.
import assert from 'node:assert/strict'
import type { CacheLayout, DecodeSession, Past, SessionPart, SourceRow } from '../../src/runtime/runtime.ts'

export const fakeLayout: CacheLayout = { layers: 1, heads: 1, headDim: 2, rowsMax: 4, positionsMax: 64 }

/** Hash after each position that the row holds; of the prefix's positions only the last one's is true. */
type FakeRow = number[]

export class FakeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  readonly tellsEvery: boolean = true
  /** Tokens of each call, for tests that look at the batches. */
  readonly calls: (readonly (readonly number[])[])[] = []
  /** Sources of each call. */
  readonly reads: (readonly SourceRow[])[] = []
  /** Called before each step; what it throws, the step throws. */
  beforeExtend: (parts: readonly SessionPart[]) => void | Promise<void> = () => {}
  /** May change a row's logits. `length` is what the row holds, prefix included. */
  adjust: (logits: Float32Array, length: number) => void = () => {}
  readonly #rows: (FakeRow | null)[]
  /** Hash of what each row has read; 0: nothing. */
  readonly #sources: number[]
  readonly #buffer: Float32Array

  constructor(vocabulary: number, layout: CacheLayout = fakeLayout) {
    this.layout = layout
    this.vocabulary = vocabulary
    this.lengths = new Int32Array(layout.rowsMax)
    this.#rows = Array.from({ length: layout.rowsMax }, () => null)
    this.#sources = Array.from({ length: layout.rowsMax }, () => 0)
    // As many positions as a step has logits of: several of a row where every token is asked for.
    this.#buffer = new Float32Array(8 * layout.rowsMax * vocabulary)
  }

  seed(row: number, past: Past | null): void {
    let hash = 17
    for (const number of past?.keys ?? []) hash = mix(hash, Math.round(number * 1000))
    this.#sources[row] = 0
    this.#rows[row] = Array.from({ length: past?.length ?? 0 }, () => hash)
    this.lengths[row] = past?.length ?? 0
  }

  async read(rows: readonly SourceRow[]): Promise<void> {
    this.reads.push(rows)
    for (const { row, source } of rows) {
      const held = this.#rows[row]
      assert.ok(held, `row ${row} was seeded and reads a source`)
      let hash = 29
      for (const number of [source.encoder, source.cross].flatMap((past) => [...(past?.keys ?? [])]))
        hash = mix(hash, Math.round(number * 1000))
      this.#sources[row] = source.tokens.reduce(mix, hash)
    }
  }

  extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    return this.step([{ start, tokens }])
  }

  async step(parts: readonly SessionPart[]): Promise<Float32Array> {
    assert.ok(parts.length >= 1)
    await this.beforeExtend(parts)
    this.calls.push(parts.flatMap(({ tokens }) => tokens))
    this.#buffer.fill(Number.NaN) // Whoever kept logits of an earlier call finds nothing there.
    let n = 0
    for (const { start, tokens, every } of parts) {
      assert.ok(tokens.length >= 1 && start + tokens.length <= this.layout.rowsMax)
      tokens.forEach((pieces, i) => {
        const row = this.#rows[start + i]
        assert.ok(row && pieces.length >= 1, `row ${start + i} was seeded and gets tokens`)
        for (const [t, token] of pieces.entries()) {
          row.push(mix(row.at(-1) ?? 17, token))
          assert.ok(row.length <= this.layout.positionsMax)
          this.lengths[start + i] = row.length
          if (!every && t < pieces.length - 1) continue
          const logits = this.#buffer.subarray(n * this.vocabulary, (n + 1) * this.vocabulary)
          const seen = (row.at(-1) as number) ^ (this.#sources[start + i] as number)
          for (let v = 0; v < logits.length; v++) logits[v] = (mix(seen, v) >>> 0) / 2 ** 29 - 4
          this.adjust(logits, row.length)
          n++
        }
      })
    }
    return this.#buffer.subarray(0, n * this.vocabulary)
  }

  release(rows: readonly number[]): void {
    for (const row of rows) this.#rows[row] = null
    for (const row of rows) this.lengths[row] = 0
  }

  copy(from: number, to: number, since: number, until: number): void {
    const row = this.#rows[from]
    assert.ok(row && since <= until && until <= row.length, `${from} to ${to}, ${since} to ${until}`)
    const kept = this.#rows[to]?.slice(0, since) ?? []
    assert.deepEqual(kept, row.slice(0, since), 'what is not copied is the same already')
    this.#rows[to] = row.slice(0, until)
    if (since === 0) this.#sources[to] = this.#sources[from] as number
    else assert.equal(this.#sources[to], this.#sources[from], 'rows that begin alike have read the same')
    this.lengths[to] = until
  }

  async dispose(): Promise<void> {}
}

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ Math.imul(value + 0x9e37, 0x85ebca6b), 0xc2b2ae35)
  h ^= h >>> 15
  h = Math.imul(h, 0x27d4eb2f)
  return h ^ (h >>> 13)
}

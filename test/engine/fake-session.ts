// A decode session without a model: logits are a hash of all that a row holds, so that any mistake with rows shows.
import assert from 'node:assert/strict'
import type { CacheLayout, DecodeSession, Past } from '../../src/runtime/runtime.ts'

export const fakeLayout: CacheLayout = { layers: 1, heads: 1, headDim: 2, rowsMax: 4, positionsMax: 64 }

interface FakeRow {
  hash: number
  length: number
}

export class FakeSession implements DecodeSession {
  readonly layout: CacheLayout
  readonly vocabulary: number
  readonly lengths: Int32Array
  /** Tokens of each call, for tests that look at the batches. */
  readonly calls: (readonly (readonly number[])[])[] = []
  /** Called before each `extend`; what it throws, `extend` throws. */
  beforeExtend: (start: number, tokens: readonly (readonly number[])[]) => void | Promise<void> = () => {}
  /** May change a row's logits. `length` is what the row holds, prefix included. */
  adjust: (logits: Float32Array, length: number) => void = () => {}
  readonly #rows: (FakeRow | null)[]
  readonly #buffer: Float32Array

  constructor(vocabulary: number, layout: CacheLayout = fakeLayout) {
    this.layout = layout
    this.vocabulary = vocabulary
    this.lengths = new Int32Array(layout.rowsMax)
    this.#rows = Array.from({ length: layout.rowsMax }, () => null)
    this.#buffer = new Float32Array(layout.rowsMax * vocabulary)
  }

  seed(row: number, past: Past | null): void {
    let hash = 17
    for (const number of past?.keys ?? []) hash = mix(hash, Math.round(number * 1000))
    this.#rows[row] = { hash, length: past?.length ?? 0 }
    this.lengths[row] = past?.length ?? 0
  }

  async extend(start: number, tokens: readonly (readonly number[])[]): Promise<Float32Array> {
    assert.ok(tokens.length >= 1 && start + tokens.length <= this.layout.rowsMax)
    await this.beforeExtend(start, tokens)
    this.calls.push(tokens)
    this.#buffer.fill(Number.NaN) // Whoever kept logits of an earlier call finds nothing there.
    tokens.forEach((pieces, i) => {
      const row = this.#rows[start + i]
      assert.ok(row && pieces.length >= 1, `row ${start + i} was seeded and gets tokens`)
      for (const token of pieces) row.hash = mix(row.hash, token)
      row.length += pieces.length
      assert.ok(row.length <= this.layout.positionsMax)
      this.lengths[start + i] = row.length
      const logits = this.#buffer.subarray(i * this.vocabulary, (i + 1) * this.vocabulary)
      for (let v = 0; v < logits.length; v++) logits[v] = (mix(row.hash, v) >>> 0) / 2 ** 29 - 4
      this.adjust(logits, row.length)
    })
    return this.#buffer.subarray(0, tokens.length * this.vocabulary)
  }

  trim(rows: number): void {
    this.#rows.fill(null, rows)
    this.lengths.fill(0, rows)
  }

  move(from: number, to: number): void {
    const row = this.#rows[from]
    assert.ok(row && from !== to)
    this.#rows[to] = { ...row }
    this.lengths[to] = row.length
  }

  async dispose(): Promise<void> {}
}

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ Math.imul(value + 0x9e37, 0x85ebca6b), 0xc2b2ae35)
  h ^= h >>> 15
  h = Math.imul(h, 0x27d4eb2f)
  return h ^ (h >>> 13)
}

// The tokens that neighbouring rows of a session get, and where each of them stands.
import assert from 'node:assert/strict'
import type { CacheLayout, Past, SessionPart } from './runtime.ts'

/** By how much the position of a row's next token is less than its length, where the row starts from `past`. */
export function shiftOf(past: Past | null): number {
  return past === null ? 0 : past.length - (past.textStart ?? past.length)
}

/** Of a session: cached positions of each row, and the shift of each. */
export interface SessionRows {
  readonly layout: CacheLayout
  readonly lengths: Int32Array
  readonly shifts: Int32Array
}

/** Both [row, width], padded behind the end of a row. Throws where a row has no room for its tokens. */
export function tokensAndPositions(
  { start, tokens }: SessionPart,
  width: number,
  { layout, lengths, shifts }: SessionRows,
): { readonly ids: Int32Array; readonly positions: Int32Array } {
  const batch = tokens.length
  const { rowsMax, positionsMax } = layout
  assert.ok(tokens.every((row) => row.length > 0) && start + batch <= rowsMax)
  const ids = new Int32Array(batch * width)
  const positions = new Int32Array(batch * width)
  tokens.forEach((row, b) => {
    const length = lengths[start + b] as number
    assert.ok(
      length + row.length <= positionsMax,
      `row ${start + b}: ${length} + ${row.length} positions of ${positionsMax}`,
    )
    ids.set(row, b * width)
    const first = length - (shifts[start + b] as number)
    // Padding is never looked at, but its position must exist.
    for (let t = 0; t < width; t++) positions[b * width + t] = Math.min(first + t, positionsMax - 1)
  })
  return { ids, positions }
}

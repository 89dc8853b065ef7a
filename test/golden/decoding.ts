// What transformers makes of rows of logits, and what its beam search generates (see decoding/README.md).
import { readFileSync } from 'node:fs'
import type { Decoding } from '../../src/engine/request.ts'

/** -Infinity is null. */
type Row = readonly (number | null)[]

interface GoldenRows {
  readonly decoding: Partial<Decoding>
  readonly minNewTokens: number
  /** Of each row of `rows`, behind the history of the same place. */
  readonly expected: readonly Row[]
}

export interface GoldenBeams {
  readonly prompt: readonly number[]
  readonly decoding: Partial<Decoding> & Pick<Decoding, 'beams'>
  readonly minNewTokens: number
  readonly maxNewTokens: number
  /** As many as beams, the best first; end-of-text included. */
  readonly tokens: readonly (readonly number[])[]
  readonly scores: readonly number[]
}

export interface DecodingGolden {
  readonly endOfText: number
  readonly histories: readonly { readonly prompt: readonly number[]; readonly output: readonly number[] }[]
  readonly rows: readonly Row[]
  readonly cases: readonly GoldenRows[]
  readonly beams: readonly GoldenBeams[]
}

export const golden = JSON.parse(readFileSync('test/golden/decoding/golden.json', 'utf8')) as DecodingGolden

export function toRow(row: Row): Float32Array {
  return Float32Array.from(row, (value) => value ?? -Infinity)
}

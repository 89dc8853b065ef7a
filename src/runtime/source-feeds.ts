// A batch of sources as the encoder's graph takes it (see the model's `sourceGraph`).
import { inputsOf, type Graph } from '../graph/graph.ts'
import { float32, int32, type Tensor } from '../tensor/tensor.ts'
import type { CacheLayout, Past, RowSource, SourceRow } from './runtime.ts'

/** The layers of an encoder. */
export function encoderLayers(encoder: Graph): number {
  return inputsOf(encoder).filter(({ attributes }) => attributes.name.startsWith('pastKey.')).length
}

/** Each source once, and the rows that are to have read it. */
export function rowsBySource(rows: readonly SourceRow[]): ReadonlyMap<RowSource, readonly number[]> {
  const bySource = new Map<RowSource, number[]>()
  for (const { row, source } of rows) bySource.set(source, [...(bySource.get(source) ?? []), row])
  return bySource
}

export const longestSource = (sources: readonly RowSource[]): number =>
  Math.max(...sources.map(({ tokens }) => tokens.length))

/** int32 tokens and positions [B, S], padded to the longest, and lengths [B]. */
export function paddedSources(
  sources: readonly (readonly number[])[],
): Readonly<Record<'tokens' | 'positions' | 'lengths', Tensor>> {
  const [batch, width] = [sources.length, Math.max(...sources.map(({ length }) => length))]
  const tokens = new Int32Array(batch * width)
  sources.forEach((source, b) => tokens.set(source, b * width))
  const positions = tokens.map((_, i) => i % width)
  const lengths = Int32Array.from(sources, ({ length }) => length)
  return {
    tokens: int32(tokens, [batch, width]),
    positions: int32(positions, [batch, width]),
    lengths: int32(lengths, [batch]),
  }
}

/** How past keys lie: a line of positions for each of a head's numbers, as the model's graph has them, or a head's numbers for each position. */
export type KeyOrder = 'byNumber' | 'byPosition'

/** All padded to the longest. */
export function sourceFeeds(
  sources: readonly RowSource[],
  layers: number,
  shape: Pick<CacheLayout, 'heads' | 'headDim'>,
  order: KeyOrder = 'byNumber',
): Record<string, Tensor> {
  const pastLengths = Int32Array.from(sources, ({ encoder }) => encoder?.length ?? 0)
  const pasts = sources.map(({ encoder }) => encoder)
  return {
    ...paddedSources(sources.map(({ tokens }) => tokens)),
    pastLengths: int32(pastLengths, [sources.length]),
    ...pastFeeds(pasts, layers, shape, order),
  }
}

/** Each row's own, padded to the longest. */
function pastFeeds(
  pasts: readonly (Past | null)[],
  layers: number,
  { heads, headDim }: Pick<CacheLayout, 'heads' | 'headDim'>,
  order: KeyOrder,
): Record<string, Tensor> {
  const longest = Math.max(1, ...pasts.map((past) => past?.length ?? 0))
  const size = heads * headDim * longest
  const feeds: Record<string, Tensor> = {}
  for (let l = 0; l < layers; l++) {
    const [keys, values] = [new Float32Array(pasts.length * size), new Float32Array(pasts.length * size)]
    for (const [b, past] of pasts.entries()) {
      if (past === null) continue
      for (let h = 0; h < heads; h++) {
        const from = (l * heads + h) * past.length * headDim
        const to = b * size + h * headDim * longest
        values.set(past.values.subarray(from, from + past.length * headDim), to)
        if (order === 'byPosition') keys.set(past.keys.subarray(from, from + past.length * headDim), to)
        else
          for (let p = 0; p < past.length; p++)
            for (let d = 0; d < headDim; d++) keys[to + d * longest + p] = past.keys[from + p * headDim + d] as number
      }
    }
    const lines = order === 'byPosition' ? [longest, headDim] : [headDim, longest]
    feeds[`pastKey.${l}`] = float32(keys, [pasts.length, heads, ...lines])
    feeds[`pastValue.${l}`] = float32(values, [pasts.length, heads, longest, headDim])
  }
  return feeds
}

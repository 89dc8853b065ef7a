// Whether a model and the cache for its rows fit on a GPU, told before anything is loaded: the provider itself fails without a word.
import { sizeOf } from '../../tensor/tensor.ts'
import { mebibytes, type Room, takesMore } from '../room.ts'
import type { CacheLayout } from '../runtime.ts'
import { describeAdapter, type Adapter } from './adapters.ts'

interface Piece {
  readonly what: string
  readonly bytes: number
}

/** null: it fits, or nobody knows. */
export function lacking({ weights, layout }: Room, adapter: Adapter): string | null {
  const { memoryBytes, pieceBytesMax } = adapter
  const tensors = [...weights.tensors.values()].map(({ name, shape }) => ({
    what: `weight ${name}`,
    bytes: 4 * sizeOf(shape),
  }))
  const caches = layout === null ? [] : cachePieces(layout)
  const largest = [...tensors, ...caches].find(({ bytes }) => pieceBytesMax !== null && bytes > pieceBytesMax)
  if (largest !== undefined)
    return `${largest.what} takes ${mebibytes(largest.bytes)} in one piece, ${adapter.name} has at most ${mebibytes(pieceBytesMax ?? 0)}`
  // All of it is in float32 there.
  const takes = memoryBytes === null ? null : takesMore({ weights, layout }, memoryBytes)
  return takes === null ? null : `${takes}, the GPU is ${describeAdapter(adapter)}`
}

/** Half of a layer of each cache, as large as it may become. */
function cachePieces({ rowsMax, positionsMax, sourceMax, heads, headDim }: CacheLayout): Piece[] {
  const piece = (what: string, positions: number): Piece => ({
    what: `half a layer of the ${what}, ${rowsMax} rows × ${positions} positions (lower ROWS_MAX for less),`,
    bytes: 4 * rowsMax * positions * heads * headDim,
  })
  const own = piece('KV cache', positionsMax)
  return sourceMax === undefined ? [own] : [own, piece('cache of sources', sourceMax)]
}

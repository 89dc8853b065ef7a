// What a model and the cache for its rows take on a device, told before they are loaded.
import { sizeOf } from '../tensor/tensor.ts'
import type { Weights } from '../tensor/weights.ts'
import type { CacheLayout } from './runtime.ts'

/** What will lie on the device. */
export interface Room {
  readonly weights: Weights
  /** null: nothing is decoded. */
  readonly layout: CacheLayout | null
  /** Of each number of both at least, where a device has fewer than 4 for it. */
  readonly numberBytes?: 2 | 4
}

/** null: it fits into so many bytes. Otherwise how much it takes, and what to lower. */
export function takesMore({ weights, layout, numberBytes = 4 }: Room, bytes: number): string | null {
  const numbers = [...weights.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0)
  const [ofWeights, ofCache] = [numberBytes * numbers, numberBytes * cacheNumbers(layout)]
  if (ofWeights + ofCache <= bytes) return null
  const cache =
    ofCache === 0 ? '' : ` and the KV cache of ${layout?.rowsMax} rows ${mebibytes(ofCache)} (lower ROWS_MAX for less)`
  return `the weights take ${mebibytes(ofWeights)}${cache}`
}

/** As large as it may become. */
function cacheNumbers(layout: CacheLayout | null): number {
  if (layout === null) return 0
  const { layers, rowsMax, positionsMax, sourceMax = 0, heads, headDim } = layout
  return 2 * layers * rowsMax * (positionsMax + sourceMax) * heads * headDim
}

export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`

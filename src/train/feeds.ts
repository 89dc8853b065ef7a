// One batch of encoded examples as the tensors that the training and evaluation graphs take.
import type { Feeds } from '../runtime/runtime.ts'
import { float32, int32 } from '../tensor/tensor.ts'
import type { EncodedExample } from './encode.ts'
import type { TrainingOptions } from './options.ts'

/**
 * int32 tokens and positions [B, T], rows, labels [R] and lossWeights [R] with R the batch's target tokens.
 * Rows are padded at their end, where causal attention keeps them out of sight. The weights make of the tokens'
 * losses what `reduction` says: the sum over an example's targets, mean over the batch; or the mean over all targets.
 */
export function batchFeeds(
  batch: readonly EncodedExample[],
  prefixLength: number,
  reduction: TrainingOptions['lossReduction'],
): Feeds {
  const width = Math.max(...batch.map(({ tokens }) => tokens.length))
  const count = batch.reduce((sum, { targets }) => sum + targets.length, 0)
  const tokens = new Int32Array(batch.length * width)
  const positions = new Int32Array(batch.length * width)
  const rows = new Int32Array(count)
  const labels = new Int32Array(count)
  let next = 0
  batch.forEach((example, b) => {
    tokens.set(example.tokens, b * width)
    // A padded position repeats the last one: it must exist, and nobody sees it.
    for (let t = 0; t < width; t++) positions[b * width + t] = prefixLength + Math.min(t, example.tokens.length - 1)
    example.targets.forEach((label, j) => {
      rows[next] = b * width + example.promptLength - 1 + j
      labels[next++] = label
    })
  })
  const lossWeights = new Float32Array(count).fill(1 / (reduction === 'sum' ? batch.length : count))
  return {
    tokens: int32(tokens, [batch.length, width]),
    positions: int32(positions, [batch.length, width]),
    rows: int32(rows, [count]),
    labels: int32(labels, [count]),
    lossWeights: float32(lossWeights, [count]),
    pastLengths: int32(Int32Array.of(prefixLength), [1]),
  }
}

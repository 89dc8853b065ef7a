// One batch of encoded examples, and the parameters, as the tensors that the training and evaluation graphs take.
import type { Feeds } from '../runtime/runtime.ts'
import { paddedSources } from '../runtime/source-feeds.ts'
import { float32, int32 } from '../tensor/tensor.ts'
import { embeddingFeeds } from './embedding.ts'
import type { EncodedExample } from './encode.ts'
import { infixPastLengths, infixStart } from './infix.ts'
import type { TrainingOptions } from './options.ts'
import { parameterShapes, type Parameters, type PrefixShape } from './parameters.ts'

/**
 * What each target token's loss counts, over all `examples` of an optimizer step: with it the losses' sum is what `reduction`
 * says, the sum over an example's targets, mean over the examples; or the mean over all targets.
 */
export function lossWeight(examples: readonly EncodedExample[], reduction: TrainingOptions['lossReduction']): number {
  return 1 / (reduction === 'sum' ? examples.length : examples.reduce((sum, { targets }) => sum + targets.length, 0))
}

/**
 * int32 tokens and positions [B, T], rows, labels [R] and lossWeights [R] with R the batch's target tokens, each of `weight`;
 * int32 pastLengths [1], or [B, T] for an infix; and noLengths [1] where places have no prefix. Of examples with sources there
 * are `sourceFeeds` too. Rows are padded at their end, where causal attention keeps them out of sight.
 */
export function batchFeeds(
  batch: readonly EncodedExample[],
  { prefixLength, variant, textStart, isPartial }: PrefixShape,
  weight: number,
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
    const shifted = variant === 'infix' ? infixStart(example) : 0
    for (let t = 0; t < width; t++) {
      // A padded position repeats the last one: it must exist, and nobody sees it.
      const position = Math.min(t, example.tokens.length - 1)
      positions[b * width + t] = position + (position >= shifted ? textStart : 0)
    }
    example.targets.forEach((label, j) => {
      rows[next] = b * width + example.promptLength - 1 + j
      labels[next++] = label
    })
  })
  return {
    ...(isPartial && { noLengths: int32(Int32Array.of(0), [1]) }),
    tokens: int32(tokens, [batch.length, width]),
    positions: int32(positions, [batch.length, width]),
    rows: int32(rows, [count]),
    labels: int32(labels, [count]),
    lossWeights: float32(new Float32Array(count).fill(weight), [count]),
    pastLengths:
      variant === 'infix' ? infixPastLengths(batch, width, prefixLength) : int32(Int32Array.of(prefixLength), [1]),
  }
}

/** int32 source.tokens and source.positions [B, S] and source.lengths [B]; without sources nothing. See `SourceMemory` for those that were read before. */
export function sourceFeeds(batch: readonly EncodedExample[]): Feeds {
  const sources = batch.flatMap(({ source }) => (source === undefined ? [] : [source]))
  if (sources.length === 0) return {}
  const { tokens, positions, lengths } = paddedSources(sources)
  return { 'source.tokens': tokens, 'source.positions': positions, 'source.lengths': lengths }
}

/** The trainables with `fixedFeeds`. */
export function parameterFeeds(parameters: Parameters, shape: PrefixShape): Feeds {
  const shapes = parameterShapes(shape)
  const trainables = Object.fromEntries(
    [...parameters].map(([name, data]) => [name, float32(data, shapes.get(name) as readonly number[])]),
  )
  return { ...trainables, ...fixedFeeds(shape) }
}

/** What the graph needs beside the trainables to make keys and values of them. */
export function fixedFeeds(shape: PrefixShape): Feeds {
  return shape.variant === 'embedding' ? embeddingFeeds(shape) : {}
}

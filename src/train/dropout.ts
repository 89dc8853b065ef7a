// Dropout on the prefix's keys and values (Srivastava et al. 2014), its masks drawn from seed and step alone.
import type { GraphBuilder } from '../graph/builder.ts'
import { forkSeed, Random } from '../random/random.ts'
import type { Feeds } from '../runtime/runtime.ts'
import { float32 } from '../tensor/tensor.ts'
import type { PrefixShape, PrefixValues } from './parameters.ts'

const halves = ['keys', 'values'] as const
const maskOf = (half: string): string => `dropout.${half}`
const extentsOf = ({ layers, heads, prefixLength, headDim }: PrefixShape): readonly number[] => [
  layers,
  heads,
  prefixLength,
  headDim,
]

/** Keeps the streams of masks apart from those of the batches and of the initial values. */
const dropoutSeed = 0xd209

/** Multiplies keys and values by masks, two more inputs of the graph. */
export function dropOut(g: GraphBuilder, prefix: PrefixValues, shape: PrefixShape): PrefixValues {
  const [keys, values] = halves.map((half) => g.mul(prefix[half], g.input(maskOf(half), extentsOf(shape))))
  return { ...prefix, keys: keys!, values: values! }
}

/**
 * The masks of an optimizer step: 0 with probability `rate`, else 1/(1 − rate). One for all rows of the step, however many
 * batches they come in, so that accumulated batches are one batch.
 */
export function dropoutFeeds(shape: PrefixShape, rate: number, seed: number, step: number): Feeds {
  const random = new Random(forkSeed(seed, dropoutSeed, step))
  const extents = extentsOf(shape)
  const size = extents.reduce((a, b) => a * b, 1)
  const draw = (): Float32Array =>
    Float32Array.from({ length: size }, () => (random.next() < rate ? 0 : 1 / (1 - rate)))
  return Object.fromEntries(halves.map((half) => [maskOf(half), float32(draw(), extents)]))
}

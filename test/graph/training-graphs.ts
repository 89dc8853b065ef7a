// Training graphs of all kinds over the tiny models, with feeds of random numbers.
import type { Graph } from '../../src/graph/graph.ts'
import { openModel, type Model } from '../../src/model/model.ts'
import { Random } from '../../src/random/random.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { float32, int32, sizeOf, type Tensor } from '../../src/tensor/tensor.ts'
import { dropoutFeeds } from '../../src/train/dropout.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import { batchFeeds, fixedFeeds, sourceFeeds } from '../../src/train/feeds.ts'
import { evaluationGraph, scopeOf, sharedTrainingGraph, type GraphMember } from '../../src/train/graphs.ts'
import type { PrefixVariant } from '../../src/train/options.ts'
import { foldedShape, parameterShapes, shapeOn } from '../../src/train/parameters.ts'
import { bartExamples, bartFolder } from '../golden/bart.ts'
import { goldenFolder } from '../golden/gpt2.ts'

/** Printed with every failure; SEED=… takes it back. */
export const seed = Number(process.env['SEED'] ?? 7)

export const gpt2 = await openModel(`${goldenFolder}/model`)
export const bart = await openModel(`${bartFolder}/model`)
/** With scaled embeddings, the other gelu and no bias of the logits. */
export const otherBart = await openModel(`${bartFolder}/model-other`)

const texts: readonly EncodedExample[] = [
  { tokens: [5, 6, 7, 8], targets: [8, 9], promptLength: 3 },
  { tokens: [3, 4, 5], targets: [5, 1, 2], promptLength: 1 },
  { tokens: [9, 9, 9, 2, 1], targets: [0], promptLength: 5 },
]

export interface MemberOptions {
  readonly prefixLength?: number
  /** Hidden width. */
  readonly network?: number
  readonly variant?: PrefixVariant
  readonly dropout?: boolean
  readonly places?: readonly string[]
  /** Whether sources come as the encoder left them. */
  readonly encoded?: boolean
}

export interface TrainingCase {
  readonly graph: Graph
  readonly feeds: Feeds
}

function memberOf(
  model: Model,
  { prefixLength = 5, network = 0, variant = 'prefix', dropout = false, places, encoded = false }: MemberOptions,
): GraphMember {
  return {
    shape: shapeOn(model, { prefixLength, reparametrization: network, variant }, places ?? null),
    dropout,
    encoded,
  }
}

/** A step of one training, or of several. */
export function trainingCase(model: Model, members: readonly MemberOptions[], smoothing = 0): TrainingCase {
  const all = members.map((options) => memberOf(model, options))
  return { graph: sharedTrainingGraph(model, all, smoothing), feeds: feedsOf(model, all) }
}

export function evaluationCase(model: Model, options: MemberOptions): TrainingCase {
  const { shape } = memberOf(model, options)
  return {
    graph: evaluationGraph(model, shape),
    feeds: feedsOf(model, [{ shape: foldedShape(shape), dropout: false, encoded: false }]),
  }
}

function feedsOf(model: Model, members: readonly GraphMember[]): Feeds {
  const random = new Random(seed)
  const joined: Record<'rows' | 'labels' | 'lossWeights', number[]> = { rows: [], labels: [], lossWeights: [] }
  const feeds: Record<string, Tensor> = {}
  let positions = 0
  for (const [m, { shape, dropout, encoded }] of members.entries()) {
    const examples = model.places.length > 1 ? bartExamples : texts
    // Members have batches of their own sizes.
    const chosen = examples.slice(m % 2)
    const { rows, labels, lossWeights, ...batch } = batchFeeds(chosen, shape, 1 / (m + 3))
    const sources = sourceFeeds(chosen)
    const own: Record<string, Tensor> = {
      ...batch,
      ...(encoded ? encodedFeeds(sources, random, shape.heads * shape.headDim) : sources),
      ...fixedFeeds(shape),
      ...(dropout && dropoutFeeds(shape, 0.3, seed, m)),
    }
    joined.rows.push(...Array.from(rows!.data, (row) => row + positions))
    joined.labels.push(...labels!.data)
    joined.lossWeights.push(...lossWeights!.data)
    positions += own['tokens']!.data.length
    for (const [name, extents] of parameterShapes(shape))
      own[name] = float32(
        Float32Array.from({ length: sizeOf(extents) }, () => 0.3 * random.normal()),
        extents,
      )
    for (const [name, tensor] of Object.entries(own)) feeds[scopeOf(m, members.length) + name] = tensor
  }
  const count = joined.rows.length
  return {
    ...feeds,
    rows: int32(Int32Array.from(joined.rows), [count]),
    labels: int32(Int32Array.from(joined.labels), [count]),
    lossWeights: float32(Float32Array.from(joined.lossWeights), [count]),
  }
}

/** Something in the place of what an encoder leaves. */
function encodedFeeds(sources: Feeds, random: Random, width: number): Feeds {
  const extents = [...sources['source.tokens']!.shape, width]
  const hidden = Float32Array.from({ length: sizeOf(extents) }, () => random.normal())
  return { 'source.hidden': float32(hidden, extents), 'source.lengths': sources['source.lengths']! }
}

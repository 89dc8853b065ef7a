// Times optimizer steps: forward, backward, clipping and AdamW, on one batch of made-up tokens.
import { Random } from '../src/random/random.ts'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { float32, sizeOf } from '../src/tensor/tensor.ts'
import { AdamW } from '../src/train/adamw.ts'
import type { EncodedExample } from '../src/train/encode.ts'
import { batchFeeds, lossWeight } from '../src/train/feeds.ts'
import { gradientOf, trainingGraph } from '../src/train/graphs.ts'
import { parameterShapes, prefixShape, type Parameters } from '../src/train/parameters.ts'

export interface TrainingWorkload {
  readonly batchSize: number
  /** Tokens of a row, of which the later ones are targets. */
  readonly length: number
  readonly targets: number
  readonly prefixLength: number
}

/** The shape of work on which others are compared: PEFT reads all 64 tokens of a row, we need not read the last. */
export const canonicalTraining: TrainingWorkload = { batchSize: 10, length: 64, targets: 32, prefixLength: 10 }

export interface TrainingBench {
  /** Of products with frozen weights. */
  readonly form: string
  /** One optimizer step; its time in ms. */
  step(): Promise<number>
  dispose(): Promise<void>
}

export async function openTrainingBench(
  runtime: Runtime,
  model: Model,
  workload: TrainingWorkload,
  precision = 'float32',
  /** Real batches, taken in turn; without them there is a made-up one. */
  real: readonly (readonly EncodedExample[])[] = [],
): Promise<TrainingBench> {
  const random = new Random(1)
  const shape = prefixShape(model.config, workload.prefixLength, 0)
  const shapes = parameterShapes(shape)
  const parameters: Parameters = new Map(
    [...shapes].map(([name, extents]) => [
      name,
      Float32Array.from({ length: sizeOf(extents) }, () => 0.1 * random.normal()),
    ]),
  )
  const optimizer = new AdamW(parameters)
  const graph = trainingGraph(model, shape)
  const form = await runtime.fastForm(graph, model.weights, precision === 'fast' ? undefined : precision)
  const program = await runtime.compile(graph, model.weights, form)
  const batches = real.length > 0 ? real : [madeUpBatch(model, workload, random)]
  const feeds = batches.map((batch) => batchFeeds(batch, shape, lossWeight(batch, 'mean')))
  let steps = 0
  return {
    form,
    step: async () => {
      const startMs = performance.now()
      const tensors = Object.fromEntries(
        [...parameters].map(([name, data]) => [name, float32(data, shapes.get(name) as readonly number[])]),
      )
      const outputs = await program.run({ ...feeds[steps % feeds.length], ...tensors })
      const gradients = new Map(
        [...parameters.keys()].map((name) => [name, outputs[gradientOf(name)]?.data as Float32Array]),
      )
      optimizer.update(gradients, ++steps, 1e-3)
      return performance.now() - startMs
    },
    dispose: () => program.dispose(),
  }
}

/** Tokens drawn at random. */
export function madeUpBatch(
  { config }: Model,
  { batchSize, length, targets }: TrainingWorkload,
  random: Random,
): EncodedExample[] {
  return Array.from({ length: batchSize }, () => {
    const tokens = Array.from({ length }, () => Math.floor(random.next() * config.vocabulary))
    return { tokens: tokens.slice(0, -1), targets: tokens.slice(-targets), promptLength: length - targets }
  })
}

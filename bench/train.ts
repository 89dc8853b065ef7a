// Times optimizer steps: forward, backward, clipping and AdamW, on one batch of made-up tokens.
import { Random } from '../src/random/random.ts'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { float32, sizeOf } from '../src/tensor/tensor.ts'
import { AdamW } from '../src/train/adamw.ts'
import type { EncodedExample } from '../src/train/encode.ts'
import { batchFeeds, lossWeight } from '../src/train/feeds.ts'
import { gradientOf, trainingGraph } from '../src/train/graphs.ts'
import { parameterShapes, shapeOn, type Parameters } from '../src/train/parameters.ts'

export interface TrainingWorkload {
  readonly batchSize: number
  /** Tokens of a row, of which the later ones are targets. */
  readonly length: number
  readonly targets: number
  readonly prefixLength: number
  /** Tokens that an encoder reads of a row; 0: there is none. */
  readonly source?: number
  /** Where prefixes are trained; null and left out: at all of the model's places. */
  readonly places?: readonly string[] | null
}

/** The shape of work on which others are compared: PEFT reads all 64 tokens of a row, we need not read the last. */
export const canonicalTraining: TrainingWorkload = { batchSize: 10, length: 64, targets: 32, prefixLength: 10 }

/** Of a model with an encoder, whose decoder reads what it is to say, but for the last of it. */
export const sourceTraining: TrainingWorkload = {
  batchSize: 10,
  length: 49,
  targets: 48,
  prefixLength: 20,
  source: 256,
}

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
  const { prefixLength, places = null } = workload
  const shape = shapeOn(model, { prefixLength, reparametrization: 0, variant: 'prefix' }, places)
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
  { batchSize, length, targets, source = 0 }: TrainingWorkload,
  random: Random,
): EncodedExample[] {
  const draw = (count: number): number[] =>
    Array.from({ length: count }, () => Math.floor(random.next() * config.vocabulary))
  return Array.from({ length: batchSize }, () => {
    const tokens = draw(length)
    const made = { tokens: tokens.slice(0, -1), targets: tokens.slice(-targets), promptLength: length - targets }
    return source === 0 ? made : { ...made, source: draw(source) }
  })
}

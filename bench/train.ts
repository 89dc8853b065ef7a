// Times optimizer steps as the service takes them: forward, backward, clipping and AdamW, on batches of made-up tokens.
import { Random } from '../src/random/random.ts'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { sizeOf } from '../src/tensor/tensor.ts'
import { adamWDefaults, untrained } from '../src/train/adamw.ts'
import type { EncodedExample } from '../src/train/encode.ts'
import { GradientSteps, type GradientPlan } from '../src/train/gradients.ts'
import { trainingGraph } from '../src/train/graphs.ts'
import { parameterShapes, shapeOn, type Parameters, type PrefixShape } from '../src/train/parameters.ts'
import { SharedSteps } from '../src/train/shared-steps.ts'
import { holdTrainables, type Trainables } from '../src/train/trainables.ts'

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
  /** One optimizer step; its time in ms. Sources that stay as they are have been read before. */
  step(): Promise<number>
  /** Reading the sources of a batch that no step has had, in ms; null: each step reads its own, or there are none. */
  readonly readSources: (() => Promise<number>) | null
  dispose(): Promise<void>
}

/** As PEFT's loss is: the mean over the targets of a batch. */
export const benchPlan: GradientPlan = { dropout: 0, labelSmoothing: 0, lossReduction: 'mean', seed: 1 }
const learningRate = 1e-3

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
  const graph = trainingGraph(model, shape)
  const form = await runtime.fastForm(graph, model.weights, precision === 'fast' ? undefined : precision)
  const shared = new SharedSteps(runtime, model)
  const sources = shared.sourcesOf(shape, form)
  const gradients = new GradientSteps(shared, shape, benchPlan, form)
  const training = new MadeUpTraining(runtime, gradients, shape, random)
  const batches = real.length > 0 ? real : [madeUpBatch(model, workload, random)]
  let steps = 0
  return {
    form,
    step: async () => {
      const startMs = performance.now()
      await training.step(batches[steps++ % batches.length] as readonly EncodedExample[])
      return performance.now() - startMs
    },
    readSources:
      sources &&
      (async () => {
        const batch = madeUpBatch(model, workload, random)
        const startMs = performance.now()
        await sources.feeds(batch)
        return performance.now() - startMs
      }),
    dispose: async () => {
      training.dispose()
      gradients.leave()
    },
  }
}

/** A training that goes on as long as it is asked to, from trainables drawn at random. */
export class MadeUpTraining {
  readonly #trainables: Trainables
  #steps = 0

  constructor(runtime: Runtime, gradients: GradientSteps, shape: PrefixShape, random: Random) {
    const parameters: Parameters = new Map(
      [...parameterShapes(shape)].map(([name, extents]) => [
        name,
        Float32Array.from({ length: sizeOf(extents) }, () => 0.1 * random.normal()),
      ]),
    )
    this.#trainables = holdTrainables(runtime, gradients, untrained(parameters), adamWDefaults)
  }

  async step(batch: readonly EncodedExample[]): Promise<void> {
    await this.#trainables.update([batch], this.#steps++, learningRate)
  }

  dispose(): void {
    this.#trainables.dispose()
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

// Options filled in: what was left to be chosen, chosen.
import type { Model } from '../model/model.ts'
import type { EncodedExample } from './encode.ts'
import { BatchSequence } from './batches.ts'
import type { TrainingOptions } from './options.ts'

export interface TrainingPlan extends TrainingOptions {
  readonly steps: number
  readonly learningRate: number
  readonly reparametrization: number
  readonly precision: 'float32' | 'fast'
  /** Held-out loss is measured after every so many steps. */
  readonly evaluateEvery: number
}

/** Held-out loss is measured about so often in a training. */
const evaluations = 12

/** The paper's hidden width for table-to-text. */
const reparametrizationDefault = 512

/** The paper's rate, 5e-5, belongs to GPT-2 medium and large; narrower models take and want larger ones. */
function chosenRate(width: number, reparametrization: number): number {
  const scale = Math.min(1024 / width, 8)
  return (reparametrization > 0 ? 1e-3 : 2.5e-2) * scale ** 0.5
}

export function planTraining(
  options: TrainingOptions,
  model: Pick<Model, 'config'>,
  encoded: readonly EncodedExample[],
): TrainingPlan {
  const lengths = encoded.map(({ tokens }) => tokens.length)
  const steps = options.steps ?? new BatchSequence(lengths, options.batchSize, options.seed).steps(options.epochs)
  const reparametrization = options.reparametrization ?? reparametrizationDefault
  const learningRate = options.learningRate ?? chosenRate(model.config.width, reparametrization)
  return {
    ...options,
    steps,
    reparametrization,
    learningRate,
    precision: options.precision ?? 'float32',
    evaluateEvery: Math.max(1, Math.ceil(steps / evaluations)),
  }
}

/** Linear decay to 0; `step` counts from 0. */
export function learningRateAt(
  { learningRate, steps }: Pick<TrainingPlan, 'learningRate' | 'steps'>,
  step: number,
): number {
  return learningRate * (1 - step / steps)
}

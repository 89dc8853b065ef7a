// Options filled in: what was left to be chosen, by rule where no probe has chosen it.
import { ServiceError } from '../errors/errors.ts'
import type { Model } from '../model/model.ts'
import { lengthOf, type EncodedExample } from './encode.ts'
import { BatchSequence } from './batches.ts'
import { checkOptions } from './conflicts.ts'
import type { TrainingOptions } from './options.ts'

export interface TrainingPlan extends TrainingOptions {
  readonly prefixLength: number
  readonly steps: number
  readonly learningRate: number
  readonly reparametrization: number
  readonly initialization: string
  /** Held-out loss is measured after every so many steps. */
  readonly evaluateEvery: number
}

/** Held-out loss is measured about so often in a training. */
const evaluations = 12

export const prefixLengthDefault = 10
/** The paper's hidden width for table-to-text. */
export const reparametrizationDefault = 512
const initializationDefault = 'text:table to text'

/** Passes over the examples where neither they nor steps are given: enough of them for few examples, and few for many. */
const stepsMin = 240
const stepsOfFew = 600
const [epochsOfFew, epochsOfMany] = [12, 5]

/** The paper's rate, 5e-5, belongs to GPT-2 medium and large; narrower models take and want larger ones. */
export function usualRate(width: number, reparametrization: number): number {
  const scale = Math.min(1024 / width, 8)
  return (reparametrization > 0 ? 1e-3 : 2.5e-2) * scale ** 0.5
}

/** Optimizer steps for examples of these lengths. */
function plannedSteps(
  { steps, epochs, batchSize, accumulation, seed }: TrainingOptions,
  lengths: readonly number[],
): number {
  if (steps !== null) return steps
  const sequence = new BatchSequence(lengths, batchSize, seed)
  const stepsIn = (passes: number): number => Math.ceil(sequence.steps(passes) / accumulation)
  if (epochs !== null) return stepsIn(epochs)
  return Math.max(stepsMin, Math.min(stepsIn(epochsOfFew), stepsOfFew), stepsIn(epochsOfMany))
}

/**
 * `isStarted`: the prefix goes on from a stored one, which has no network any more. Throws `invalid_request` for options that
 * do not go together.
 */
export function planTraining(
  options: TrainingOptions,
  model: Pick<Model, 'config'>,
  encoded: readonly EncodedExample[],
  isStarted = false,
): TrainingPlan {
  const { variant } = options
  const steps = plannedSteps(options, encoded.map(lengthOf))
  const isDirect = isStarted || variant === 'embedding'
  const reparametrization = options.reparametrization ?? (isDirect ? 0 : reparametrizationDefault)
  if (isStarted && variant === 'embedding') {
    const message =
      'the variant embedding cannot start from a stored prefix: keys and values do not tell their embeddings'
    throw new ServiceError('invalid_request', message)
  }
  const plan = {
    ...options,
    prefixLength: options.prefixLength ?? prefixLengthDefault,
    steps,
    reparametrization,
    learningRate: options.learningRate ?? usualRate(model.config.width, reparametrization),
    initialization: options.initialization ?? initializationDefault,
    evaluateEvery: Math.max(1, Math.ceil(steps / evaluations)),
  }
  checkOptions(plan)
  return plan
}

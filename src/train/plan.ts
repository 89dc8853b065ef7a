// Options filled in: what was left to be chosen, chosen.
import { ServiceError } from '../errors/errors.ts'
import type { Model } from '../model/model.ts'
import type { EncodedExample } from './encode.ts'
import { BatchSequence } from './batches.ts'
import { checkOptions } from './conflicts.ts'
import type { TrainingOptions } from './options.ts'

export interface TrainingPlan extends TrainingOptions {
  readonly steps: number
  readonly learningRate: number
  readonly reparametrization: number
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
  const { batchSize, accumulation, seed, epochs, variant } = options
  const lengths = encoded.map(({ tokens }) => tokens.length)
  const steps = options.steps ?? Math.ceil(new BatchSequence(lengths, batchSize, seed).steps(epochs) / accumulation)
  const isDirect = isStarted || variant === 'embedding'
  const reparametrization = options.reparametrization ?? (isDirect ? 0 : reparametrizationDefault)
  const learningRate = options.learningRate ?? chosenRate(model.config.width, reparametrization)
  if (isStarted && variant === 'embedding') {
    const message =
      'the variant embedding cannot start from a stored prefix: keys and values do not tell their embeddings'
    throw new ServiceError('invalid_request', message)
  }
  const plan = {
    ...options,
    steps,
    reparametrization,
    learningRate,
    evaluateEvery: Math.max(1, Math.ceil(steps / evaluations)),
  }
  checkOptions(plan)
  return plan
}

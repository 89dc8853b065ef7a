// Says when a training has gone wrong: a loss or gradient that is no number, or a loss far above that of guessing.
import { ServiceError } from '../errors/errors.ts'

/**
 * Guessing every token alike costs ln(vocabulary) nats. A loss of so many times that means a model that is sure of wrong
 * tokens; a training that begins badly comes down from there within a few steps.
 */
const explosionFactor = 3
/** Steps in a row: one odd batch is no explosion. */
const explosionSteps = 25

export interface StepOutcome {
  /** From 1. */
  readonly step: number
  /** Numbers of the examples, from 1. */
  readonly examples: readonly number[]
  readonly loss: number
  readonly gradientNorm: number
  readonly learningRate: number
}

export class DivergenceWatch {
  readonly #lossMax: number
  #stepsAbove = 0

  constructor(vocabulary: number) {
    this.#lossMax = explosionFactor * Math.log(vocabulary)
  }

  /** Throws `training_diverged`, naming step and examples. */
  check(outcome: StepOutcome): void {
    const { loss, gradientNorm } = outcome
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw diverged(outcome, `gave a loss of ${loss} and a gradient norm of ${gradientNorm}`)
    }
    this.#stepsAbove = loss > this.#lossMax ? this.#stepsAbove + 1 : 0
    if (this.#stepsAbove < explosionSteps) return
    const limit = `above ${this.#lossMax.toFixed(1)}, ${explosionFactor} times that of guessing`
    throw diverged(outcome, `was number ${explosionSteps} in a row with a loss ${limit}: ${loss.toFixed(1)}`)
  }
}

function diverged({ step, examples, learningRate }: StepOutcome, what: string): ServiceError {
  return new ServiceError(
    'training_diverged',
    `step ${step} ${what} on examples ${examples.join(', ')}; a lower learningRate than ${learningRate} may help`,
    { step, examples },
  )
}

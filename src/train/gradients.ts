// Forward and backward over the batches of one optimizer step.
import { dropoutFeeds } from './dropout.ts'
import type { EncodedExample } from './encode.ts'
import { batchFeeds, lossWeight, parameterFeeds } from './feeds.ts'
import { gradientOf } from './graphs.ts'
import type { Parameters, PrefixShape } from './parameters.ts'
import type { TrainingPlan } from './plan.ts'
import type { SharedSteps, StepMember } from './shared-steps.ts'

export interface StepGradients {
  /** Mean loss per target token. */
  readonly loss: number
  readonly gradients: ReadonlyMap<string, Float32Array>
}

export class GradientSteps {
  readonly #member: StepMember
  readonly #shape: PrefixShape
  readonly #plan: TrainingPlan

  /** Takes a place in `steps` until `leave`. `form`: the runtime's, of products with frozen weights. */
  constructor(steps: SharedSteps, shape: PrefixShape, plan: TrainingPlan, form = 'float32') {
    this.#member = steps.join({ shape, dropout: plan.dropout > 0, smoothing: plan.labelSmoothing, form })
    this.#shape = shape
    this.#plan = plan
  }

  /** The batches together give what one batch of all their rows would. `step` counts from 0. */
  async of(
    batches: readonly (readonly EncodedExample[])[],
    parameters: Parameters,
    step: number,
  ): Promise<StepGradients> {
    const { lossReduction, dropout, seed } = this.#plan
    const weight = lossWeight(batches.flat(), lossReduction)
    const shared = {
      ...parameterFeeds(parameters, this.#shape),
      ...(dropout > 0 && dropoutFeeds(this.#shape, dropout, seed, step)),
    }
    const sums = new Map<string, Float32Array>()
    let [loss, count] = [0, 0]
    for (const batch of batches) {
      const { tokenLosses, gradients } = await this.#member.run({
        ...batchFeeds(batch, this.#shape, weight),
        ...shared,
      })
      for (const name of parameters.keys()) {
        const gradient = gradients[gradientOf(name)]?.data as Float32Array
        const sum = sums.get(name)
        if (sum === undefined) sums.set(name, gradient)
        else for (let i = 0; i < sum.length; i++) sum[i]! += gradient[i] as number
      }
      for (const value of tokenLosses) loss += value
      count += tokenLosses.length
    }
    return { loss: loss / count, gradients: sums }
  }

  leave(): void {
    this.#member.leave()
  }
}

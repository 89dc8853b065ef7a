// Forward and backward over the batches of one optimizer step.
import type { Model } from '../model/model.ts'
import type { Program, Runtime } from '../runtime/runtime.ts'
import { dropoutFeeds } from './dropout.ts'
import type { EncodedExample } from './encode.ts'
import { batchFeeds, lossWeight, parameterFeeds } from './feeds.ts'
import { gradientOf, trainingGraph } from './graphs.ts'
import type { Parameters, PrefixShape } from './parameters.ts'
import type { TrainingPlan } from './plan.ts'

export interface StepGradients {
  /** Mean loss per target token. */
  readonly loss: number
  readonly gradients: ReadonlyMap<string, Float32Array>
}

export class GradientProgram {
  readonly #program: Program
  readonly #shape: PrefixShape
  readonly #plan: TrainingPlan

  private constructor(program: Program, shape: PrefixShape, plan: TrainingPlan) {
    this.#program = program
    this.#shape = shape
    this.#plan = plan
  }

  static async open(runtime: Runtime, model: Model, shape: PrefixShape, plan: TrainingPlan): Promise<GradientProgram> {
    const graph = trainingGraph(model, shape, { smoothing: plan.labelSmoothing, dropout: plan.dropout > 0 })
    return new GradientProgram(await runtime.compile(graph, model.weights), shape, plan)
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
      const outputs = await this.#program.run({ ...batchFeeds(batch, this.#shape, weight), ...shared })
      for (const name of parameters.keys()) {
        const gradient = outputs[gradientOf(name)]?.data as Float32Array
        const sum = sums.get(name)
        if (sum === undefined) sums.set(name, gradient)
        else for (let i = 0; i < sum.length; i++) sum[i]! += gradient[i] as number
      }
      const losses = outputs['tokenLosses']?.data as Float32Array
      for (const value of losses) loss += value
      count += losses.length
    }
    return { loss: loss / count, gradients: sums }
  }

  dispose(): Promise<void> {
    return this.#program.dispose()
  }
}

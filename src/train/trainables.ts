// What a training trains and how a step changes it: on the host, or where the runtime computes.
import type { Runtime } from '../runtime/runtime.ts'
import type { AdamWOptions, TrainedGroup, TrainedState } from '../runtime/training.ts'
import { AdamW } from './adamw.ts'
import type { EncodedExample } from './encode.ts'
import type { GradientSteps, StepResult } from './gradients.ts'
import type { Parameters } from './parameters.ts'

export interface Trainables {
  /** One optimizer step, counted from 0, over these batches together. */
  update(batches: readonly (readonly EncodedExample[])[], step: number, learningRate: number): Promise<StepResult>
  /** As the last step left them. Not to be changed, and current until the next step. */
  read(group: TrainedGroup): Parameters
  dispose(): void
}

/** The state is theirs from then on. On the host, or in the memory of a runtime that takes optimizer steps itself. */
export function holdTrainables(
  { training }: Runtime,
  gradients: GradientSteps,
  state: TrainedState,
  options: AdamWOptions,
): Trainables {
  if (training === undefined) return new HostTrainables(gradients, state, options)
  const resident = training.hold(state, options)
  return {
    update: (batches, step, learningRate) => gradients.update(batches, resident, step, learningRate),
    read: (group) => resident.read(group),
    dispose: () => resident.dispose(),
  }
}

class HostTrainables implements Trainables {
  readonly #gradients: GradientSteps
  readonly #parameters: Parameters
  readonly #optimizer: AdamW

  constructor(gradients: GradientSteps, state: TrainedState, options: AdamWOptions) {
    this.#gradients = gradients
    this.#parameters = state.parameters
    this.#optimizer = new AdamW(state, options)
  }

  async update(
    batches: readonly (readonly EncodedExample[])[],
    step: number,
    learningRate: number,
  ): Promise<StepResult> {
    const { loss, gradients } = await this.#gradients.of(batches, this.#parameters, step)
    return { loss, gradientNorm: this.#optimizer.update(gradients, step + 1, learningRate) }
  }

  read(group: TrainedGroup): Parameters {
    return group === 'parameters' ? this.#parameters : this.#optimizer[group]
  }

  dispose(): void {}
}

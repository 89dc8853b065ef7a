// AdamW (Loshchilov & Hutter 2019, algorithm 2) with gradients clipped to a norm, on host arrays.
import { stepFactors, type AdamWOptions, type StepFactors, type TrainedState } from '../runtime/training.ts'
import type { Parameters } from './parameters.ts'

/** The paper's settings. */
export const adamWDefaults: AdamWOptions = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 }

/** Parameters with moments of zero: before the first step. */
export function untrained(parameters: Parameters): TrainedState {
  const zeros = (): Parameters => new Map([...parameters].map(([name, data]) => [name, new Float32Array(data.length)]))
  return { parameters, first: zeros(), second: zeros() }
}

/** The state is its own from then on. */
export class AdamW {
  /** First and second moments, by parameter. */
  readonly first: Parameters
  readonly second: Parameters
  readonly #parameters: Parameters
  readonly #options: AdamWOptions

  constructor({ parameters, first, second }: TrainedState, options: AdamWOptions = adamWDefaults) {
    this.#parameters = parameters
    this.#options = options
    this.first = first
    this.second = second
  }

  /** One step in place; `step` counts from 1. Answers the norm of the gradients before clipping. */
  update(gradients: ReadonlyMap<string, Float32Array>, step: number, learningRate: number): number {
    const { clipNorm } = this.#options
    let square = 0
    for (const name of this.#parameters.keys()) square += sumOfSquares(gradients.get(name) as Float32Array)
    const norm = Math.sqrt(square)
    // As PyTorch's clip_grad_norm_: the 1e-6 keeps a norm of zero from dividing.
    const clip = Math.min(1, clipNorm / (norm + 1e-6))
    const factors = stepFactors(this.#options, step, learningRate)
    for (const [name, data] of this.#parameters)
      this.#updateOne(name, data, gradients.get(name) as Float32Array, clip, factors)
    return norm
  }

  #updateOne(
    name: string,
    data: Float32Array,
    gradient: Float32Array,
    clip: number,
    { rate, secondCorrection, decay }: StepFactors,
  ): void {
    const { beta1, beta2, epsilon } = this.#options
    const m = this.first.get(name) as Float32Array
    const v = this.second.get(name) as Float32Array
    for (let i = 0; i < data.length; i++) {
      const g = (gradient[i] as number) * clip
      const mean = beta1 * (m[i] as number) + (1 - beta1) * g
      const square = beta2 * (v[i] as number) + (1 - beta2) * g * g
      m[i] = mean
      v[i] = square
      data[i] = decay * (data[i] as number) - (rate * mean) / (Math.sqrt(square) / secondCorrection + epsilon)
    }
  }
}

function sumOfSquares(values: Float32Array): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * (values[i] as number)
  return sum
}

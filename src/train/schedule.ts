// The learning rate of each optimizer step: a warm-up, then a line, half a cosine, or nothing.
import type { Schedule } from './options.ts'

export interface LearningRates {
  readonly learningRate: number
  readonly steps: number
  readonly warmupSteps: number
  readonly schedule: Schedule
}

/**
 * `step` counts from 0. As transformers' get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup (half a wave) and
 * get_constant_schedule_with_warmup: the first step of a warm-up has rate 0.
 */
export function learningRateAt({ learningRate, steps, warmupSteps, schedule }: LearningRates, step: number): number {
  if (step < warmupSteps) return learningRate * (step / warmupSteps)
  if (schedule === 'constant') return learningRate
  const progress = (step - warmupSteps) / Math.max(1, steps - warmupSteps)
  return learningRate * (schedule === 'cosine' ? 0.5 * (1 + Math.cos(Math.PI * progress)) : 1 - progress)
}

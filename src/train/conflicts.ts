// Training options that are each in order and do not go together.
import { ServiceError } from '../errors/errors.ts'
import type { TrainingOptions } from './options.ts'

export interface OptionConflict {
  readonly option: keyof TrainingOptions
  readonly expected: string
  readonly received: string
}

export function optionConflicts(options: TrainingOptions): OptionConflict[] {
  const { variant, reparametrization, steps, warmupSteps } = options
  const conflicts: OptionConflict[] = []
  if (variant === 'embedding' && reparametrization !== null && reparametrization > 0) {
    const expected = '0 or null with the variant embedding, which the frozen model itself turns into keys and values'
    conflicts.push({ option: 'reparametrization', expected, received: String(reparametrization) })
  }
  if (steps !== null && warmupSteps >= steps) {
    const expected = `less than the ${steps} steps, or the rate never gets to learningRate`
    conflicts.push({ option: 'warmupSteps', expected, received: String(warmupSteps) })
  }
  return conflicts
}

/** Throws `invalid_request` with the first conflict. */
export function checkOptions(options: TrainingOptions): void {
  const [first] = optionConflicts(options)
  if (first === undefined) return
  const message = `the training option ${first.option} is ${first.received}, it must be ${first.expected}`
  throw new ServiceError('invalid_request', message)
}

// What is measured on a GPU: the sizes that figures are taken with, and small ones that try every part of the bench itself.
import type { TrainingWorkload } from './train.ts'
import { canonicalTraining } from './train.ts'

export interface DeviceWork {
  /** Optimizer steps of GPT-2's shape. */
  readonly training: TrainingWorkload
  /** The same of a larger model, whose products are large enough to keep the device busy. */
  readonly largeTraining: TrainingWorkload
  /** Of ours and of a rival's, in turn. */
  readonly stepsPerRound: number
  /** Trainings that share a step. */
  readonly together: number
  /** Rows that decode side by side. */
  readonly rows: readonly number[]
  readonly promptTokens: number
  readonly newTokens: number
  /** Runs of which the median counts, for each kernel. */
  readonly kernelRuns: number
  /** Rows, columns and inner extent of the products whose rate is the most that the device reaches. */
  readonly squares: readonly number[]
}

export const measuredWork: DeviceWork = {
  training: canonicalTraining,
  largeTraining: { batchSize: 16, length: 512, targets: 256, prefixLength: 10 },
  stepsPerRound: 10,
  together: 8,
  rows: [1, 64],
  promptTokens: 32,
  newTokens: 64,
  kernelRuns: 5,
  squares: [4096, 8192],
}

/** Its figures mean nothing. */
export const triedWork: DeviceWork = {
  training: { batchSize: 2, length: 8, targets: 4, prefixLength: 3 },
  largeTraining: { batchSize: 2, length: 20, targets: 10, prefixLength: 3 },
  stepsPerRound: 2,
  together: 2,
  rows: [1, 2],
  promptTokens: 4,
  newTokens: 3,
  kernelRuns: 1,
  squares: [64],
}

/** Of a GPU that may be a small one, in turn with the CPU. */
export const measuredBesideCpu: DeviceWork = { ...measuredWork, stepsPerRound: 2, rows: [1, 8], newTokens: 32 }

/** Throws: what a driver that computes on the CPU takes says nothing of a GPU. */
export function refuseFigures(device: string): never {
  throw new Error(`${device} computes on the CPU: its figures do not go into the page`)
}

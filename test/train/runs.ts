// Opening and finishing tiny trainings.
import type { TrainingData, TrainingOptions, TrainingProgress, TrainingRun } from '../../src/train/options.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { tinyData, tinyOptions, tinyParts } from './tiny.ts'

export const parts = await tinyParts()

const never = new AbortController().signal

export function open(
  options: Partial<TrainingOptions> = {},
  data: TrainingData = tinyData(),
  checkpoint: Uint8Array | null = null,
): Promise<TrainingRun> {
  return openTraining(parts, data, { ...tinyOptions, ...options }, checkpoint)
}

export async function finish(run: TrainingRun): Promise<TrainingProgress[]> {
  const reports: TrainingProgress[] = []
  for await (const report of run.steps(never)) reports.push(report)
  return reports
}

/** Steps of `run` until `count` are done, or all of them. */
export async function advance(run: TrainingRun, count: number): Promise<number[]> {
  const stop = new AbortController()
  const losses: number[] = []
  for await (const { loss } of run.steps(stop.signal)) {
    losses.push(loss)
    if (losses.length === count) stop.abort()
  }
  return losses
}

// One training job from its examples to a published prefix, going on from a checkpoint where there is one.
import { setImmediate } from 'node:timers/promises'
import type { Checkpoints } from './checkpoints.ts'
import { startingLabel, type StopReason, type TrainJobData } from './job.ts'
import type { HeldOutOutcome } from './samples.ts'
import { ServiceError, type ErrorCode } from '../errors/errors.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixRecord } from '../prefix/record.ts'
import {
  trainingDefaults,
  type Example,
  type StartingPrefix,
  type TrainingData,
  type TrainingOptions,
  type TrainingProgress,
  type TrainingRun,
} from '../train/options.ts'
import { splitExamples } from '../train/split.ts'
import { stopError } from './stopping.ts'

export interface TrainingJob {
  readonly id?: string | undefined
  readonly data: TrainJobData
  updateProgress(progress: TrainingProgress): Promise<void>
}

/** What a training needs of the rest of the service. */
export interface TrainingParts {
  readonly registry: {
    /** Throws `prefix_not_found`. */
    find(id: string): Promise<PrefixRecord>
    /** Throws `prefix_not_found`. */
    load(id: string): Promise<Prefix>
    update(id: string, changes: Partial<PrefixRecord>): Promise<unknown>
    publish(id: string, prefix: Prefix, changes: Partial<PrefixRecord>): Promise<unknown>
  }
  readonly datasets: { get(id: string): Promise<readonly Example[]> }
  readonly checkpoints: Checkpoints
  openTraining(data: TrainingData, options: TrainingOptions, checkpoint: Uint8Array | null): Promise<TrainingRun>
  /** What the new prefix makes of inputs that it was not trained on; ends early, with less, where `signal` aborts. */
  evaluate(prefix: Prefix, heldOut: readonly Example[], signal: AbortSignal): Promise<HeldOutOutcome>
  /** By what this process computes: it goes into the record beside the options as used. */
  readonly environment: Readonly<Record<string, unknown>>
  /** Hears of what went wrong without spoiling the training. */
  warn(message: string, error: unknown): void
}

/** How often a run reports and writes itself down. */
export interface TrainingRhythm {
  readonly progressEveryMs: number
  /** A checkpoint comes after so long or so many steps, whichever is first. */
  readonly checkpointEveryMs: number
  readonly checkpointEverySteps: number
}

export const defaultRhythm: TrainingRhythm = {
  progressEveryMs: 300,
  checkpointEveryMs: 10_000,
  checkpointEverySteps: 100,
}

export interface TrainingResult {
  readonly prefixId: string
  readonly step: number
  readonly loss: number | null
  readonly validationLoss: number | null
}

/**
 * Harmless if done again, wholly or in part: a job that dies goes on from its last checkpoint, one that dies after the
 * prefix was published has nothing left to do. A deleted prefix is wanted no more, and its job is cancelled. Throws an
 * error named `handedBack` when stopped for a shutdown.
 */
export async function trainJob(
  job: TrainingJob,
  signal: AbortSignal,
  parts: TrainingParts,
  rhythm: TrainingRhythm = defaultRhythm,
): Promise<TrainingResult> {
  const jobId = job.id ?? ''
  const { prefixId } = job.data
  // An older version may have put the job in line, without the options that came since.
  const options = { ...trainingDefaults, ...job.data.options }
  try {
    const record = await parts.registry.find(prefixId)
    if (record.status === 'ready') {
      await parts.checkpoints.delete(jobId)
      return { prefixId, step: record.step, loss: record.loss, validationLoss: record.validationLoss }
    }
    const data = await loadData({ ...job.data, options }, parts)
    await parts.registry.update(prefixId, { status: 'training' })
    const run = await openRun(jobId, data, options, parts)
    try {
      const last = await runSteps(job, run, signal, parts, rhythm)
      return await publish(job, run, data, last, signal, parts)
    } finally {
      await run.dispose()
    }
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error
    const isUnwanted = error.code === 'prefix_not_found' && !('from' in error.details)
    if (isUnwanted || error.code === 'cancelled') await parts.checkpoints.delete(jobId)
    if (!isUnwanted) throw error
    throw new ServiceError(
      'cancelled',
      `prefix ${prefixId} was deleted before its training ended`,
      {},
      { cause: error },
    )
  }
}

/** Goes on from the checkpoint, or starts anew where it is of no use: another version of the service may have left it. */
async function openRun(
  jobId: string,
  data: TrainingData,
  options: TrainingOptions,
  parts: TrainingParts,
): Promise<TrainingRun> {
  const checkpoint = await parts.checkpoints.get(jobId)
  try {
    return await parts.openTraining(data, options, checkpoint)
  } catch (error) {
    if (checkpoint === null || !(error instanceof ServiceError) || error.code !== 'prefix_invalid') throw error
    parts.warn(`the checkpoint of job ${jobId} cannot be used, the training starts anew`, error)
    return parts.openTraining(data, options, null)
  }
}

/** What may pass by itself, or by somebody's making room. */
const storeCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['store_full', 'store_unavailable'])

/** The steps that are left to do; answers the last report, null where there was none left. */
async function runSteps(
  job: TrainingJob,
  run: TrainingRun,
  signal: AbortSignal,
  parts: TrainingParts,
  rhythm: TrainingRhythm,
): Promise<TrainingProgress | null> {
  const jobId = job.id ?? ''
  const saved = { step: run.step, atMs: performance.now() }
  let latest: TrainingProgress | null = null
  const save = async (): Promise<void> => {
    saved.step = run.step
    saved.atMs = performance.now()
    try {
      await writeDown(jobId, run, parts)
      if (latest === null) return
      const { step, steps, loss, validationLoss } = latest
      await parts.registry.update(job.data.prefixId, { step, steps, loss, validationLoss })
    } catch (error) {
      // The last good checkpoint is still there, and by the next one there may be room.
      if (!(error instanceof ServiceError) || !storeCodes.has(error.code)) throw error
      parts.warn(`job ${jobId} could not be written down at step ${run.step}, its training goes on`, error)
    }
  }
  let reported: TrainingProgress | null = null
  let reportedMs = Number.NEGATIVE_INFINITY
  for await (latest of run.steps(signal)) {
    const nowMs = performance.now()
    if (nowMs - reportedMs >= rhythm.progressEveryMs) {
      await job.updateProgress(latest)
      reported = latest
      reportedMs = nowMs
    }
    const stepsDue = run.step - saved.step >= rhythm.checkpointEverySteps
    if (stepsDue || nowMs - saved.atMs >= rhythm.checkpointEveryMs) await save()
    // A step holds the thread from end to end: here the word to stop comes in.
    await setImmediate()
  }
  if (latest !== null && latest !== reported) await job.updateProgress(latest)
  if (signal.aborted) await stop(signal, run.step > saved.step ? save : null)
  return latest
}

async function writeDown(jobId: string, run: TrainingRun, { checkpoints }: TrainingParts): Promise<void> {
  const checkpoint = run.checkpoint()
  if (checkpoint !== null) await checkpoints.put(jobId, checkpoint)
}

/** For a job whose `signal` has aborted. Always throws: what it throws says what becomes of the job. */
export async function stop(signal: AbortSignal, save: (() => Promise<void>) | null): Promise<never> {
  const reason = signal.reason as StopReason
  if (reason === 'shutdown') await save?.()
  throw stopError(reason)
}

async function publish(
  { id, data: { prefixId, validation } }: TrainingJob,
  run: TrainingRun,
  { heldOut }: TrainingData,
  last: TrainingProgress | null,
  signal: AbortSignal,
  parts: TrainingParts,
): Promise<TrainingResult> {
  const prefix = await run.prefix()
  let outcome: HeldOutOutcome = { samples: [], metrics: {} }
  try {
    outcome = await parts.evaluate(prefix, heldOut, signal)
  } catch (error) {
    parts.warn('no samples of the new prefix', error)
  }
  if (signal.aborted) await stop(signal, () => writeDown(id ?? '', run, parts))
  const record = await parts.registry.find(prefixId)
  // Where the checkpoint had all steps in it already, the record has their report.
  const { loss } = last ?? record
  const best = prefix.header.training.validationLoss
  const validationLoss = typeof best === 'number' ? best : (last ?? record).validationLoss
  const { step } = run
  await parts.registry.publish(prefixId, prefix, {
    training: { ...run.used, ...parts.environment },
    validation,
    step,
    steps: step,
    loss,
    validationLoss,
    ...outcome,
  })
  await parts.checkpoints.delete(id ?? '')
  return { prefixId, step, loss, validationLoss }
}

/** The examples of a training and those held out of it. */
export async function loadData(
  data: TrainJobData,
  parts: { readonly datasets: TrainingParts['datasets']; readonly registry: Pick<TrainingParts['registry'], 'load'> },
): Promise<TrainingData> {
  const { template, validation, options } = data
  const examples = await parts.datasets.get(data.datasetId)
  const from = data.from ? startingPrefix(data.from, parts) : null
  if (typeof validation === 'string') {
    return { examples, heldOut: await parts.datasets.get(validation), template, from }
  }
  return { ...splitExamples(examples, validation, options.seed), template, from }
}

function startingPrefix(
  { prefixId, artifactSha256 }: NonNullable<TrainJobData['from']>,
  { registry }: { readonly registry: Pick<TrainingParts['registry'], 'load'> },
): StartingPrefix {
  const label = startingLabel(prefixId, artifactSha256)
  const load = async (): Promise<Prefix> => {
    try {
      return await registry.load(prefixId)
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'prefix_not_found') throw error
      const message = `the prefix ${prefixId}, from which the training was to start, was deleted before it did`
      throw new ServiceError('prefix_not_found', message, { from: label }, { cause: error })
    }
  }
  return { label, load }
}

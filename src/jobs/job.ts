// Trainings and evaluations, asked for now and done later: what a job carries, reports and returns.
import type { Decoding } from '../engine/request.ts'
import { newId } from '../prefix/ids.ts'
import type { TrainingOptions, TrainingProgress } from '../train/options.ts'

/** Everything a worker needs, and no more: it may start days later, in another process. */
export interface TrainJobData {
  /** Missing in jobs of the first version, which knew nothing but trainings. */
  readonly type?: 'train'
  readonly prefixId: string
  readonly datasetId: string
  /** Share of the examples held out (0 to 0.9), or the id of a dataset of its own. */
  readonly validation: number | string
  readonly template: string
  readonly options: TrainingOptions
  /** A ready prefix that the new one goes on from. */
  readonly from?: { readonly prefixId: string; readonly artifactSha256: string } | null
  /** The span that asked for it, where spans are made: as in the header of that name. */
  readonly traceparent?: string
}

/** How records name the prefix that a training started from. */
export function startingLabel(prefixId: string, artifactSha256: string): string {
  return `${prefixId}@${artifactSha256}`
}

/** Reads what `startingLabel` wrote; null: it is no such label. */
export function parseStartingLabel(label: unknown): NonNullable<TrainJobData['from']> | null {
  const [, prefixId, artifactSha256] = /^(pfx_[0-9a-z]{24})@([0-9a-f]{64})$/.exec(String(label)) ?? []
  return prefixId === undefined || artifactSha256 === undefined ? null : { prefixId, artifactSha256 }
}

export interface EvaluateJobData {
  readonly type: 'evaluate'
  readonly prefixId: string
  /** Examples with the same input are one, with several references. */
  readonly datasetId: string
  readonly maxNewTokens: number
  readonly decoding: Decoding
  readonly seed: number
  /** Whether the bare model is measured too, without and with examples in its prompt. */
  readonly baselines: boolean
  readonly traceparent?: string
}

export type JobData = TrainJobData | EvaluateJobData
export type JobType = NonNullable<JobData['type']>

export interface EvaluationProgress {
  /** Texts made. */
  readonly example: number
  /** Texts to make: those of the prefix and of each baseline. */
  readonly examples: number
  readonly etaMs: number
}

export type JobProgress = TrainingProgress | EvaluationProgress

/** queued → running → succeeded | failed | cancelled; a stopped worker's job goes back to queued. */
export type JobStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'

/** Why a running job is told to stop; it travels as text. */
export type StopReason = 'cancelled' | 'shutdown' | 'lock lost'

export interface JobProblem {
  readonly code: string
  readonly detail: string
}

/** A job as clients see it. Times are ISO 8601, UTC. */
export interface Job {
  readonly id: string
  readonly type: JobType
  readonly status: JobStatus
  readonly prefixId: string
  readonly progress: JobProgress | null
  /** Times the job was started. */
  readonly attempts: number
  readonly error: JobProblem | null
  readonly createdAt: string
  readonly startedAt: string | null
  readonly finishedAt: string | null
}

/** One line of a job's history. Ids count from 1 and have no holes, so that a client can ask for what it missed. */
export interface JobEvent {
  readonly id: number
  readonly type: 'started' | 'progress' | 'succeeded' | 'failed' | 'cancelled'
  readonly data: Readonly<Record<string, unknown>>
}

export function typeOf(data: JobData): JobType {
  return data.type ?? 'train'
}

/**
 * How far a job is: steps of a training, texts of an evaluation. While options are being chosen no step counts yet: then it is
 * per cent of that, below zero.
 */
export function countOf(progress: JobProgress): { readonly done: number; readonly total: number } {
  if (!('step' in progress)) return { done: progress.example, total: progress.examples }
  const { step, steps, choosing } = progress
  if (choosing === undefined) return { done: step, total: steps }
  return { done: Math.floor((100 * choosing.done) / choosing.total) - 101, total: steps }
}

/** `job_` and 24 characters of [0-9a-z]. In byte order of their ids the newest jobs come first, as with prefixes. */
export function createJobId(): string {
  return newId('job')
}

export interface JobPage {
  readonly data: readonly Job[]
  readonly next: string | null
}

export interface JobQueue {
  /** `jobId` from `createJobId`. A job that is there already stays as it is. Throws `queue_unavailable` or `overloaded`. */
  enqueue(jobId: string, data: JobData): Promise<void>
  get(jobId: string): Promise<Job | null>
  /** Newest first, which is the order of their ids. `cursor` is the `next` of the page before. */
  list(query: { readonly status?: JobStatus; readonly limit: number; readonly cursor?: string }): Promise<JobPage>
  /** Cancels a waiting or running job. Throws `job_not_found` or `job_finished`. */
  cancel(jobId: string): Promise<void>
  /** Events after the one numbered `after` (0: all), then live ones, until the job ends or `signal` aborts. */
  events(jobId: string, after: number, signal: AbortSignal): AsyncIterable<JobEvent>
  /** The events so far, without waiting for more. Throws `job_not_found`. */
  eventsSoFar(jobId: string): Promise<readonly JobEvent[]>
  /** Throws `queue_unavailable` when the queue cannot be reached. */
  ping(): Promise<void>
  close(): Promise<void>
}

// What a worker and the child processes that run its jobs say to each other. Plain JSON, so that any child can be read.
import type { JobProgress } from 'bullmq'
import type { JobData } from './job.ts'

/** Of a job, what its run in the child may know. */
export interface ChildJobState {
  readonly id: string
  readonly data: JobData
  /** Times it was started, this one included. */
  readonly attemptsStarted: number
}

export type ToChild =
  | { readonly type: 'run'; readonly job: ChildJobState }
  | { readonly type: 'stop'; readonly jobId: string; readonly reason: string }

/** A job ends with `done` or `failed`, or with its process. */
export type FromChild =
  | { readonly type: 'progress'; readonly jobId: string; readonly progress: JobProgress }
  | { readonly type: 'done'; readonly jobId: string; readonly result: unknown }
  | { readonly type: 'failed'; readonly jobId: string; readonly error: ChildError }

/** An error without its class, which does not cross a process boundary. */
export interface ChildError {
  readonly name: string
  readonly message: string
  readonly code: string | null
  /** For the log. */
  readonly stack: string | null
}

/** A job as its processor sees it. */
export interface ChildJob extends ChildJobState {
  updateProgress(progress: JobProgress): Promise<void>
}

/** The default export of a processor file. Several may run in one process, side by side. */
export type Processor = (job: ChildJob, signal: AbortSignal) => Promise<unknown>

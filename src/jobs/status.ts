// A job as clients see it, from what the queue keeps of it.
import type { QueuedJob } from './broker.ts'
import type { HistoryRow } from './history.ts'
import { typeOf, type Job, type JobProblem, type JobProgress, type JobStatus } from './job.ts'
import { decodeProblem } from './problem.ts'

/** What the queue knows; it has a few more names for jobs that wait. */
export type QueueState = 'waiting' | 'active' | 'failed' | 'completed'

/** null: the queue does not know the job. */
export function readState(name: string): QueueState | null {
  if (name === 'unknown') return null
  return name === 'active' || name === 'failed' || name === 'completed' ? name : 'waiting'
}

export function describeJob(job: QueuedJob, state: QueueState): Job {
  const { cancel } = job.data
  const status = statusOf(job, state)
  const ended = status !== 'queued' && status !== 'running'
  // A worker that takes a cancelled job only to end it has not started it.
  const attempts = cancel?.waiting ? cancel.attempts : job.attemptsStarted
  const finishedMs = status === 'cancelled' && cancel?.waiting ? cancel.at : (job.finishedOn ?? cancel?.at)
  return {
    id: job.id ?? '',
    type: typeOf(job.data),
    status,
    prefixId: job.data.prefixId,
    progress: typeof job.progress === 'object' && job.progress !== null ? (job.progress as JobProgress) : null,
    attempts,
    error: status === 'failed' || status === 'cancelled' ? problemOfJob(job) : null,
    createdAt: toIso(job.timestamp),
    startedAt: job.processedOn === undefined || attempts === 0 ? null : toIso(job.processedOn),
    finishedAt: ended && finishedMs !== undefined ? toIso(finishedMs) : null,
  }
}

/** The event that ends the history of a job; null while it has not ended. */
export function lastRow(job: Job): HistoryRow | null {
  const { status, prefixId, error, finishedAt } = job
  if (status === 'queued' || status === 'running') return null
  return { type: status, data: { prefixId, error, at: finishedAt } }
}

function statusOf(job: QueuedJob, state: QueueState): JobStatus {
  const { cancel } = job.data
  if (state === 'completed') return 'succeeded'
  if (state === 'failed') return problemOfJob(job).code === 'cancelled' ? 'cancelled' : 'failed'
  // A cancelled job that waits is only ever taken to be ended without running.
  if (state === 'waiting') return cancel === undefined ? 'queued' : 'cancelled'
  return cancel?.waiting === true ? 'cancelled' : 'running'
}

function problemOfJob(job: QueuedJob): JobProblem {
  if (job.failedReason && job.finishedOn) return decodeProblem(job.failedReason)
  return { code: 'cancelled', detail: 'the job was cancelled' }
}

function toIso(ms: number): string {
  return new Date(ms).toISOString()
}

// What happened to a job, kept as rows with the job itself, so that any process can tell it again from any row on.
import type { QueueEventsListener } from 'bullmq'
import type { Broker, QueuedJob } from './broker.ts'
import { countOf, type JobEvent, type JobProgress } from './job.ts'

/** Rows kept of one job, all its runs together. */
export const eventsMax = 2_000
/** Rows one run may write: there may be several runs. */
const eventsOfRunMax = 800
/** Reports waiting to be written; more are dropped, because the next one says more. */
const backlogMax = 16

/** Published in the queue's event stream. They wake up and ask; what matters is kept with the job. */
export interface TrainEvents extends QueueEventsListener {
  /** Somebody wants the job ended. */
  'cancel-request': (event: { jobId: string }, id: string) => void
  /** A row was written. */
  history: (event: { jobId: string }, id: string) => void
}

/**
 * Rows are the events themselves without their ids: the first row is event 1. The last event of a job has no row. It is
 * what the job's final state says, and so it is there however the job ended.
 */
export type HistoryRow = Omit<JobEvent, 'id'>

/** Writes the rows of one run of a job, in order. There is one writer at a time: who holds the job's lock. */
export class HistoryWriter {
  readonly #job: QueuedJob
  readonly #signal: AbortSignal
  readonly #producer: Broker['producer']
  readonly #onError: (error: Error) => void
  readonly #updateProgress: (progress: JobProgress) => Promise<void>
  #tail = Promise.resolve()
  #backlog = 0
  /** Of the whole job; known from the first row on. */
  #rows = 0
  #doneWritten = Number.NEGATIVE_INFINITY
  #latest: JobProgress | null = null

  /** From now on every progress that `job` reports goes through this writer. */
  constructor(job: QueuedJob, signal: AbortSignal, producer: Broker['producer'], onError: (error: Error) => void) {
    this.#job = job
    this.#signal = signal
    this.#producer = producer
    this.#onError = onError
    this.#updateProgress = job.updateProgress.bind(job)
    // The queue passes the child's reports on as calls of this method and does not wait for them at the end of the run.
    job.updateProgress = (progress) => this.#report(progress as JobProgress)
  }

  started(): Promise<void> {
    return this.#enqueue(async () => {
      await this.#write({ type: 'started', data: { attempt: this.#job.attemptsStarted, at: new Date().toISOString() } })
      await this.#producer.publishEvent({ eventName: 'history', jobId: this.#job.id ?? '' })
    })
  }

  /** After this nothing of the run is written any more. */
  async flush(): Promise<void> {
    await this.#enqueue(async () => {
      const latest = this.#latest
      if (latest === null || countOf(latest).done === this.#doneWritten) return
      await this.#writeProgress(latest)
      await this.#updateProgress(latest)
    })
  }

  #report(progress: JobProgress): Promise<void> {
    this.#latest = progress
    if (this.#backlog >= backlogMax) return Promise.resolve()
    return this.#enqueue(async () => {
      const { done, total } = countOf(progress)
      const apart = Math.max(1, Math.ceil(total / eventsOfRunMax))
      // The row first: the update is what wakes up those who read rows.
      if (done - this.#doneWritten >= apart) await this.#writeProgress(progress)
      await this.#updateProgress(progress)
    })
  }

  async #writeProgress(progress: JobProgress): Promise<void> {
    this.#doneWritten = countOf(progress).done
    await this.#write({ type: 'progress', data: { ...progress, at: new Date().toISOString() } })
  }

  async #write(row: HistoryRow): Promise<void> {
    if (this.#rows >= eventsMax || this.#signal.reason === 'lock lost') return
    this.#rows = await this.#job.log(JSON.stringify(row))
  }

  /** A server that is away for a moment costs a row, not the training. */
  #enqueue(write: () => Promise<void>): Promise<void> {
    this.#backlog += 1
    this.#tail = this.#tail
      .then(write)
      .catch((error: unknown) => this.#onError(error as Error))
      .finally(() => (this.#backlog -= 1))
    return this.#tail
  }
}

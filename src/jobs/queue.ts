// The jobs as the HTTP side sees them: put in line, looked at, followed, cancelled.
import { inTime, type Broker, type QueuedData, type QueuedJob } from './broker.ts'
import type { TrainEvents } from './history.ts'
import { typeOf, type Job, type JobData, type JobEvent, type JobPage, type JobQueue } from './job.ts'
import { listJobs } from './listing.ts'
import { describeJob, lastRow, readState, type QueueState } from './status.ts'
import { ServiceError } from '../errors/errors.ts'

/** Jobs waiting to run. */
const waitingJobsMax = 1_000
/** Longest wait for the queue's server. */
const answerMsMax = 5_000
/** Rows of a history read at once. */
const rowsReadMax = 500
/** Histories followed at once in this process. */
const readersMax = 1_000
/** Readers are woken up by events; should one get lost, they look again after this time. */
const lookAgainMs = 5_000

export interface JobQueueOptions {
  /** Called when a training is cancelled that had not been running; the worker tells of all the other ends. */
  readonly onCancelled?: (jobId: string, prefixId: string) => Promise<void>
}

export class BrokerJobQueue implements JobQueue {
  readonly #broker: Broker
  readonly #onCancelled: NonNullable<JobQueueOptions['onCancelled']>
  #readerCount = 0
  readonly #readers = new Map<string, Set<() => void>>()
  readonly #wake = ({ jobId }: { jobId: string }): void => {
    for (const wake of this.#readers.get(jobId) ?? []) wake()
  }

  constructor(broker: Broker, options: JobQueueOptions) {
    this.#broker = broker
    this.#onCancelled = options.onCancelled ?? (() => Promise.resolve())
    for (const event of wakingEvents) broker.listener.on<TrainEvents>(event, this.#wake)
  }

  async enqueue(jobId: string, data: JobData): Promise<void> {
    const waiting = await answered(this.#broker.queue.getJobCountByTypes('waiting', 'delayed', 'prioritized'))
    if (waiting >= waitingJobsMax) {
      const message = `${waiting} jobs are waiting already, ${waitingJobsMax} at most can`
      throw new ServiceError('overloaded', message)
    }
    await answered(this.#broker.queue.add(typeOf(data), data, { jobId }))
  }

  async get(jobId: string): Promise<Job | null> {
    const found = await this.#find(jobId)
    return found === null ? null : describeJob(found.job, found.state)
  }

  list(query: Parameters<JobQueue['list']>[0]): Promise<JobPage> {
    return answered(listJobs(this.#broker.queue, query))
  }

  /**
   * The wish is written into the job first: a message alone could be lost, and a job must not be removed while it may be
   * starting elsewhere. Whoever takes a job with the wish in it ends it without running it, and who has it running is
   * told, and looks for the wish now and then besides.
   */
  async cancel(jobId: string): Promise<void> {
    const found = await this.#find(jobId)
    if (found === null) throw new ServiceError('job_not_found', `there is no job ${jobId}`)
    const { status } = describeJob(found.job, found.state)
    if (status !== 'queued' && status !== 'running') {
      throw new ServiceError('job_finished', `job ${jobId} has ended already: ${status}`, { status })
    }
    const data: QueuedData = {
      ...found.job.data,
      cancel: { at: Date.now(), waiting: false, attempts: found.job.attemptsStarted },
    }
    await answered(found.job.updateData(data))
    const after = await this.#find(jobId)
    if (after?.state === 'waiting') {
      // Nobody had it when the wish was already written: it will not run any more.
      const cancel = { at: Date.now(), waiting: true, attempts: after.job.attemptsStarted }
      await answered(after.job.updateData({ ...data, cancel }))
      if (typeOf(data) === 'train') await this.#onCancelled(jobId, data.prefixId)
      await answered(this.#broker.producer.publishEvent({ eventName: 'history', jobId }))
    }
    await answered(this.#broker.producer.publishEvent({ eventName: 'cancel-request', jobId }))
  }

  async *events(jobId: string, after: number, signal: AbortSignal): AsyncGenerator<JobEvent, void> {
    let id = after
    const knock = this.#listen(jobId)
    try {
      for (let first = true; !signal.aborted; first = false) {
        const heard = knock.next()
        // The state before the rows: once it is final, no row is missing any more.
        const job = await this.get(jobId)
        if (job === null && first) throw new ServiceError('job_not_found', `there is no job ${jobId}`)
        if (job === null) return
        const { logs, count } = await answered(this.#broker.queue.getJobLogs(jobId, id, id + rowsReadMax - 1))
        // A number from a history that was lost with its server: go on with what there is.
        if (id > count && lastRow(job) === null) id = count
        for (const row of logs) yield { id: ++id, ...(JSON.parse(row) as Omit<JobEvent, 'id'>) }
        if (id < count) continue
        const last = lastRow(job)
        if (last !== null) {
          if (id === count) yield { id: count + 1, ...last }
          return
        }
        await waitFor(heard, lookAgainMs, signal)
      }
    } finally {
      knock.close()
    }
  }

  async eventsSoFar(jobId: string): Promise<readonly JobEvent[]> {
    // The state before the rows, as above.
    const job = await this.get(jobId)
    if (job === null) throw new ServiceError('job_not_found', `there is no job ${jobId}`)
    const events: JobEvent[] = []
    for (let count = 1; events.length < count; ) {
      const from = events.length
      const page = await answered(this.#broker.queue.getJobLogs(jobId, from, from + rowsReadMax - 1))
      for (const row of page.logs) {
        events.push({ id: events.length + 1, ...(JSON.parse(row) as Omit<JobEvent, 'id'>) })
      }
      // A history that went away meanwhile has no more rows to come.
      count = page.logs.length === 0 ? events.length : page.count
    }
    const last = lastRow(job)
    if (last !== null) events.push({ id: events.length + 1, ...last })
    return events
  }

  async ping(): Promise<void> {
    await answered(this.#broker.queue.getJobCountByTypes('active'))
  }

  /** Numbers of jobs by state in Prometheus' text format. */
  prometheus(): Promise<string> {
    return answered(this.#broker.queue.exportPrometheusMetrics())
  }

  /** Lets the readers go; the connections belong to the broker. */
  close(): Promise<void> {
    for (const event of wakingEvents) this.#broker.listener.off<TrainEvents>(event, this.#wake)
    return Promise.resolve()
  }

  async #find(jobId: string): Promise<{ job: QueuedJob; state: QueueState } | null> {
    // The state first: if the job ends in between, the job read after it is at least as complete.
    const state = readState(await answered(this.#broker.queue.getJobState(jobId)))
    if (state === null) return null
    const job = await answered(this.#broker.queue.getJob(jobId))
    return job === undefined ? null : { job, state }
  }

  /** `next()` settles when something is heard of the job after it was called. */
  #listen(jobId: string): { next(): Promise<void>; close(): void } {
    if (this.#readerCount >= readersMax) {
      throw new ServiceError('overloaded', `${readersMax} readers follow jobs already, no more can`)
    }
    this.#readerCount += 1
    let resolve: (() => void) | null = null
    let pending: Promise<void> | null = null
    const wake = (): void => {
      resolve?.()
      pending = null
    }
    const readers = this.#readers.get(jobId) ?? new Set()
    this.#readers.set(jobId, readers.add(wake))
    return {
      next: () => (pending ??= new Promise((settle) => (resolve = settle))),
      close: () => {
        this.#readerCount -= 1
        readers.delete(wake)
        if (readers.size === 0 && this.#readers.get(jobId) === readers) this.#readers.delete(jobId)
      },
    }
  }
}

const wakingEvents = ['history', 'progress', 'active', 'waiting', 'completed', 'failed', 'removed'] as const

export function openJobQueue(broker: Broker, options: JobQueueOptions = {}): BrokerJobQueue {
  return new BrokerJobQueue(broker, options)
}

function answered<T>(answer: Promise<T>): Promise<T> {
  return inTime(answer, answerMsMax, 'the queue')
}

/** Settles after `heard`, after `limitMs` or once `signal` aborts, whichever comes first. */
function waitFor(heard: Promise<void>, limitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, limitMs)
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
    else void heard.then(end)
  })
}

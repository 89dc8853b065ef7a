// Takes jobs from the queue and has them run in child processes, several side by side in each.
import { UnrecoverableError, WaitingError } from 'bullmq'
import type { Broker, QueuedJob, TrainWorker } from './broker.ts'
import { Children } from './children.ts'
import { HistoryWriter, type TrainEvents } from './history.ts'
import { typeOf, type JobProblem, type StopReason } from './job.ts'
import { decodeProblem, encodeProblem, isExit, isFinal, problemOf } from './problem.ts'
import { handedBack } from './stopping.ts'

/** A worker that is silent this long has lost its jobs to the others. The same on all workers of a queue. */
const lockMsDefault = 15_000
/**
 * Within the time of a lock, how often to look for jobs without a worker, and for requests to cancel that were published
 * while this worker was not listening. Redis keeps one clock of the former for all workers, so they must agree.
 */
const looksPerLock = 3
/** Deaths of its worker that a job may survive. */
const stallsMax = 3
/** A stop waits this long for the running trainings to put their checkpoints down. */
const stopMsMax = 10_000
const endAttemptsMax = 3
const endRetryMs = 500

export interface JobLog {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

/** Of a training; what became of an evaluation its job alone tells. `succeeded` when the prefix is published; the others come with the reason. */
export type JobEnd = (
  jobId: string,
  prefixId: string,
  status: 'succeeded' | 'failed' | 'cancelled',
  problem: JobProblem | null,
) => Promise<void>

export interface WorkerOptions {
  readonly broker: Broker
  /** A built module whose default export does one job: see `training-process.ts`. */
  readonly processorFile: URL
  readonly processesMax: number
  /** Jobs side by side in one process: trainings there share their steps. */
  readonly jobsPerProcess: number
  readonly lockMs?: number
  /** Environment of the children. */
  readonly env: NodeJS.ProcessEnv
  readonly log: JobLog
  /** Called before the queue knows of the end, and once more should the worker die in between. */
  readonly onEnd: JobEnd
}

export class JobWorker {
  readonly #options: WorkerOptions
  readonly #worker: TrainWorker
  readonly #children: Children
  readonly #lookEveryMs: number
  /** Ends that are being told, which a stop waits for. */
  readonly #telling = new Set<Promise<void>>()
  #stopping: Promise<void> | null = null

  constructor(options: WorkerOptions) {
    const { broker, processesMax, jobsPerProcess, lockMs = lockMsDefault } = options
    this.#options = options
    this.#lookEveryMs = lockMs / looksPerLock
    this.#children = new Children(options)
    this.#worker = broker.worker({
      concurrency: processesMax * jobsPerProcess,
      lockDuration: lockMs,
      stalledInterval: this.#lookEveryMs,
      maxStalledCount: stallsMax,
    })
    this.#listen()
    this.#worker
      .start((job, token, signal) => this.#run(job, token, signal))
      .catch((error: unknown) => options.log.error({ error: String(error) }, 'the worker takes no more jobs'))
  }

  ready(): Promise<void> {
    return this.#worker.waitUntilReady()
  }

  /** Takes no more jobs; the running ones write checkpoints and go back to the queue, to go on elsewhere or later. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#options.broker.listener.off<TrainEvents>('cancel-request', this.#onCancelRequest)
    const closed = this.#worker.close()
    this.#worker.cancelAllJobs('shutdown' satisfies StopReason)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), stopMsMax)))
    const outcome = await Promise.race([closed, late])
    clearTimeout(timer)
    await Promise.all(this.#telling)
    this.#children.close()
    if (outcome !== 'late') return
    // They end with this process; another worker finds their locks expired and goes on from the last checkpoints.
    this.#options.log.warn({ waitedMs: stopMsMax }, 'trainings did not stop in time and are left to be recovered')
  }

  async #run(job: QueuedJob, token: string, signal: AbortSignal): Promise<unknown> {
    const { broker, log } = this.#options
    if (this.#stopping !== null) return this.#handBack(job, token)
    if (job.data.cancel !== undefined) throw await this.#ended(job, cancelledProblem)
    const onError = (error: Error): void => log.warn({ job: job.id, error: error.message }, 'job history not written')
    const history = new HistoryWriter(job, signal, broker.producer, onError)
    await history.started()
    const timer = setInterval(() => void this.#lookForCancel(job.id ?? ''), this.#lookEveryMs)
    try {
      const result = await this.#children.run({
        job: { id: job.id ?? '', data: job.data, attemptsStarted: job.attemptsStarted },
        signal,
        alone: job.attemptsMade > 0,
        onProgress: (progress) => void job.updateProgress(progress),
      })
      await history.flush()
      await this.#tell(job, 'succeeded', null)
      return result
    } catch (error) {
      await history.flush()
      if (signal.reason === 'lock lost') throw error
      // A child that a stop of the whole process group has ended did not fail either.
      if ((error as Error).name === handedBack || (this.#stopping !== null && isExit(error))) {
        return this.#handBack(job, token)
      }
      throw await this.#ended(job, problemOf(error))
    } finally {
      clearInterval(timer)
    }
  }

  async #handBack(job: QueuedJob, token: string): Promise<never> {
    await job.moveToWait(token)
    this.#options.log.info({ job: job.id }, 'job handed back to the queue')
    throw new WaitingError()
  }

  /** The error that ends this run, and the job with it where another run would not help. */
  async #ended(job: QueuedJob, problem: JobProblem): Promise<Error> {
    const final = isFinal(problem)
    if (final || job.attemptsMade + 1 >= (job.opts.attempts ?? 1)) {
      await this.#tell(job, problem.code === 'cancelled' ? 'cancelled' : 'failed', problem)
    }
    const text = encodeProblem(problem)
    return final ? new UnrecoverableError(text) : new Error(text)
  }

  #tell(
    job: QueuedJob,
    ...end: [status: 'succeeded' | 'failed' | 'cancelled', problem: JobProblem | null]
  ): Promise<void> {
    const told = this.#tellSafely(job, ...end).finally(() => this.#telling.delete(told))
    this.#telling.add(told)
    return told
  }

  async #tellSafely(job: QueuedJob, ...end: [Parameters<JobEnd>[2], JobProblem | null]): Promise<void> {
    if (typeOf(job.data) !== 'train') return
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#options.onEnd(job.id ?? '', job.data.prefixId, ...end)
      } catch (error) {
        if (attempt === endAttemptsMax) {
          this.#options.log.error({ job: job.id, error: String(error) }, 'the end of a job could not be recorded')
          return
        }
        await new Promise((resolve) => setTimeout(resolve, endRetryMs))
      }
    }
  }

  async #lookForCancel(jobId: string): Promise<void> {
    try {
      const job = await this.#options.broker.queue.getJob(jobId)
      if (job?.data.cancel !== undefined) this.#stopJob(jobId, 'cancelled')
    } catch {
      // The queue's server is away: the next look may find it.
    }
  }

  readonly #onCancelRequest = ({ jobId }: { jobId: string }): void => this.#stopJob(jobId, 'cancelled')

  /** Nothing happens when this worker does not have the job. */
  #stopJob(jobId: string, reason: StopReason): void {
    this.#worker.cancelJob(jobId, reason)
  }

  #listen(): void {
    const { broker, log } = this.#options
    broker.listener.on<TrainEvents>('cancel-request', this.#onCancelRequest)
    this.#worker.on('active', (job) => log.info({ job: job.id, attempt: job.attemptsStarted }, 'job started'))
    this.#worker.on('completed', (job) => log.info({ job: job.id }, 'job succeeded'))
    this.#worker.on('stalled', (id) => log.warn({ job: id }, 'job found without a worker, taken up again'))
    this.#worker.on('failed', (job, error) => {
      log.warn({ job: job?.id, problem: decodeProblem(error.message), retried: !job?.finishedOn }, 'job failed')
      // Given up by the queue itself, after too many dead workers, without a run that could have told it.
      if (job?.deferredFailure) void this.#tell(job, 'failed', decodeProblem(error.message))
    })
    this.#worker.on('lockRenewalFailed', (ids) => {
      log.warn({ jobs: ids }, 'another worker may have these jobs by now; they are stopped here')
      for (const id of ids) this.#stopJob(id, 'lock lost')
    })
  }
}

const cancelledProblem: JobProblem = { code: 'cancelled', detail: 'the job was cancelled' }

export function startWorker(options: WorkerOptions): JobWorker {
  return new JobWorker(options)
}

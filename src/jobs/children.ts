// The child processes of a worker: each runs several jobs side by side, and is kept from one job to the next.
import { fork, type ChildProcess } from 'node:child_process'
import type { JobProgress } from 'bullmq'
import type { ChildError, ChildJobState, FromChild, ToChild } from './child-messages.ts'
import type { StopReason } from './job.ts'
import { stopError } from './stopping.ts'

export interface ChildrenOptions {
  /** A built module whose default export runs one job: a `Processor`. */
  readonly processorFile: URL
  readonly processesMax: number
  /** Jobs side by side in one process. */
  readonly jobsPerProcess: number
  readonly env: NodeJS.ProcessEnv
}

export interface ChildRun {
  readonly job: ChildJobState
  readonly signal: AbortSignal
  /** A job whose process died has it to itself, so that one that is too large takes no others with it again. */
  readonly alone: boolean
  onProgress(progress: JobProgress): void
}

interface Waiting {
  readonly run: ChildRun
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

interface Child {
  readonly process: ChildProcess
  readonly jobs: Map<string, Waiting>
  /** Whether the one job in it wants no company. */
  alone: boolean
}

const childFile = new URL('./child-process.js', import.meta.url)

/** Jobs get their place in the order in which they came: one that must be alone is not overtaken without end. */
export class Children {
  readonly #options: ChildrenOptions
  readonly #children = new Set<Child>()
  readonly #waiting: Waiting[] = []

  constructor(options: ChildrenOptions) {
    this.#options = options
  }

  /** The job's result. Rejects with the job's error, or with one that `isExit` knows when its process ended first. */
  run(run: ChildRun): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const waiting = { run, resolve, reject }
      this.#waiting.push(waiting)
      if (run.signal.aborted) this.#stop(waiting)
      else run.signal.addEventListener('abort', () => this.#stop(waiting), { once: true })
      this.#place()
    })
  }

  /** Ends the processes, and what still runs in them. */
  close(): void {
    for (const child of this.#children) child.process.disconnect()
    this.#children.clear()
  }

  #place(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const child = this.#childFor(next.run.alone)
      if (child === null) return
      this.#waiting.shift()
      this.#start(child, next)
    }
  }

  /** The least busy process that has room, a new one where there may be more; null: the job has to wait. */
  #childFor(alone: boolean): Child | null {
    const { processesMax, jobsPerProcess } = this.#options
    const open = [...this.#children].filter(({ jobs, alone: closed }) => !closed && jobs.size < jobsPerProcess)
    const least = open.toSorted((a, b) => a.jobs.size - b.jobs.size)[0]
    if (least?.jobs.size === 0) return least
    if (this.#children.size < processesMax) return this.#fork()
    return alone ? null : (least ?? null)
  }

  #start(child: Child, waiting: Waiting): void {
    const { job, alone } = waiting.run
    child.jobs.set(job.id, waiting)
    child.alone = alone
    tell(child, { type: 'run', job })
  }

  #stop(waiting: Waiting): void {
    const { job, signal } = waiting.run
    const place = this.#waiting.indexOf(waiting)
    const reason = signal.reason as StopReason
    if (place >= 0) {
      this.#waiting.splice(place, 1)
      waiting.reject(stopError(reason))
      // It may have been the one that held up those behind it.
      this.#place()
    }
    for (const child of this.#children) {
      if (child.jobs.get(job.id) === waiting) tell(child, { type: 'stop', jobId: job.id, reason })
    }
  }

  #fork(): Child {
    const { processorFile, env } = this.#options
    const child: Child = { process: fork(childFile, [processorFile.href], { env }), jobs: new Map(), alone: false }
    child.process.on('message', (message: FromChild) => this.#hear(child, message))
    child.process.on('error', () => child.process.kill('SIGKILL'))
    child.process.once('exit', (code, signal) => this.#bury(child, code, signal))
    this.#children.add(child)
    return child
  }

  #hear(child: Child, message: FromChild): void {
    const waiting = child.jobs.get(message.jobId)
    if (waiting === undefined) return
    if (message.type === 'progress') {
      waiting.run.onProgress(message.progress)
      return
    }
    child.jobs.delete(message.jobId)
    child.alone = false
    if (message.type === 'done') waiting.resolve(message.result)
    else waiting.reject(fromPlain(message.error))
    this.#place()
  }

  #bury(child: Child, code: number | null, signal: NodeJS.Signals | null): void {
    this.#children.delete(child)
    for (const { reject } of child.jobs.values()) reject(new Error(`Unexpected exit code: ${code} signal: ${signal}`))
    child.jobs.clear()
    this.#place()
  }
}

/** A process that is about to end hears nothing more; its `exit` says the rest. */
function tell(child: Child, message: ToChild): void {
  if (child.process.connected) child.process.send(message, () => {})
}

function fromPlain({ name, message, code, stack }: ChildError): Error {
  const error = Object.assign(new Error(message), { name, ...(code !== null && { code }) })
  if (stack !== null) error.stack = stack
  return error
}

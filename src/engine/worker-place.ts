// Where an engine's worker runs: in a thread of this process, or in a process of its own. Whoever talks to it sees no difference.
import { type ChildProcess, fork } from 'node:child_process'
import { Worker } from 'node:worker_threads'
import type { FromWorker, ToWorker } from './messages.ts'
import type { Crash, FromProcess } from './worker-port.ts'

/** A worker that was started. */
export interface EngineWorker {
  /** Goes nowhere where it has ended. */
  post(message: ToWorker): void
  /** Ends it by force; `onExit` says when. */
  terminate(): void
}

export interface WorkerEvents {
  readonly onMessage: (message: FromWorker) => void
  /** Called once, behind its last message. `isCrash`: an error that nobody caught is the reason. */
  readonly onExit: (reason: Error, isCrash: boolean) => void
}

/** Starts a worker, each time another one. */
export type WorkerPlace = (events: WorkerEvents) => EngineWorker

/** `entry` is a module that asks `openPort` for its data and its port. */
export function inThread(entry: URL, data: unknown): WorkerPlace {
  return ({ onMessage, onExit }) => {
    const worker = new Worker(entry, { workerData: data })
    let crash: Error | null = null
    worker.on('error', (error) => {
      crash = error instanceof Error ? error : new Error(String(error))
    })
    worker.on('message', onMessage)
    worker.on('exit', (code) =>
      onExit(crash ?? new Error(`the engine's thread ended with code ${code}`), crash !== null),
    )
    return { post: (message) => worker.postMessage(message, []), terminate: () => void worker.terminate() }
  }
}

/** A process that has said that it ends, or cannot be spoken to any more, has so long before it is killed. */
const endMs = 5000

/**
 * What is lost to its process, as a device of NVIDIA's after some errors, is there again for the next one. It ends with its parent, and writes to no standard output
 * but that for errors.
 */
export function inProcess(entry: URL, data: unknown): WorkerPlace {
  return (events) => {
    try {
      // Structured clone, as between threads.
      const child = fork(entry, { serialization: 'advanced', stdio: ['ignore', 2, 2, 'ipc'] })
      follow(child, events)
      const post = (message: unknown): void => {
        if (child.connected) child.send(message as object, () => {})
      }
      post(data)
      return { post, terminate: () => void child.kill('SIGKILL') }
    } catch (error) {
      // The system had no room for a process.
      setImmediate(() => events.onExit(error as Error, true))
      return { post: () => undefined, terminate: () => undefined }
    }
  }
}

function follow(child: ChildProcess, { onMessage, onExit }: WorkerEvents): void {
  let crash: Error | null = null
  let timer: NodeJS.Timeout | undefined
  const expectEnd = (): void => {
    timer ??= setTimeout(() => child.kill('SIGKILL'), endMs)
  }
  child.on('message', (message: FromProcess) => {
    if (message.type !== 'crash') {
      onMessage(message)
      return
    }
    crash ??= fromCrash(message)
    expectEnd()
  })
  child.on('disconnect', expectEnd)
  let hasEnded = false
  const end = (reason: Error): void => {
    if (hasEnded) return
    hasEnded = true
    clearTimeout(timer)
    onExit(crash ?? reason, crash !== null)
  }
  child.on('error', (error) => {
    crash ??= error
    // One that never was has no exit.
    if (child.pid === undefined) end(error)
    else child.kill('SIGKILL')
  })
  child.on('exit', (code, signal) => {
    const how = signal === null ? `with code ${code}` : `by ${signal}`
    const reason = new Error(`the engine's process ended ${how}`)
    // What it said last may still lie in the channel.
    if (child.connected) child.once('disconnect', () => end(reason))
    else end(reason)
  })
}

function fromCrash({ message, stack }: Crash): Error {
  return Object.assign(new Error(message), { stack })
}

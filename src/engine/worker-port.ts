// The worker's end of the line: the same to a thread and to a process of its own.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { FromWorker, ToWorker } from './messages.ts'

export interface WorkerPort {
  post(message: FromWorker): void
  /** What came before waits for it. Called once. */
  listen(hear: (message: ToWorker) => void): void
  /** Ends the worker, behind the last message. */
  close(): void
}

export interface OpenedPort {
  readonly data: unknown
  readonly port: WorkerPort
}

/** An error that nobody caught: of a thread whoever started it is told by Node, of a process it is not. */
export interface Crash {
  readonly type: 'crash'
  readonly message: string
  readonly stack: string
}

export type FromProcess = FromWorker | Crash

/** Called once, at the beginning of a worker that `inThread` or `inProcess` has started. */
export async function openPort(): Promise<OpenedPort> {
  if (parentPort !== null) return { data: workerData, port: threadPort(parentPort) }
  if (process.send === undefined) throw new Error('this file is the entry of a worker')
  return processPort(process.send.bind(process))
}

function threadPort(port: MessagePort): WorkerPort {
  return {
    post: (message) => port.postMessage(message, []),
    listen: (hear) => void port.on('message', hear),
    close: () => port.close(),
  }
}

/** The first message is the data. */
function processPort(send: NonNullable<NodeJS.Process['send']>): Promise<OpenedPort> {
  // Without its parent nobody hears it.
  process.on('disconnect', () => process.exit(1))
  // Signals go to whole groups of processes. When it ends is its parent's to say, which may want answers first.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  let written: Promise<unknown> = Promise.resolve()
  const post = (message: FromProcess): void => {
    written = new Promise((resolve) => send(message, undefined, undefined, resolve))
  }
  const end = (code: number): void => void written.then(() => process.exit(code))
  process.on('uncaughtException', (thrown: unknown) => {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    post({ type: 'crash', message: error.message, stack: error.stack ?? error.message })
    end(1)
  })
  // Somebody listens from the beginning, or what comes meanwhile would be lost.
  const early: ToWorker[] = []
  let hear = (message: ToWorker): void => void early.push(message)
  const listen: WorkerPort['listen'] = (hearer) => {
    hear = hearer
    for (const message of early.splice(0)) hearer(message)
  }
  return new Promise((resolve) => {
    process.once('message', (data) => {
      process.on('message', (message: ToWorker) => hear(message))
      resolve({ data, port: { post, listen, close: () => end(0) } })
    })
  })
}

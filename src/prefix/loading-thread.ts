// Loads stored prefixes on a thread of their own: whoever computes meanwhile is given the numbers, and held up by nothing else.
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { ServiceError } from '../errors/errors.ts'
import { fromWire, type WireError } from '../errors/wire.ts'
import type { Prefix } from './prefix.ts'

export interface LoadingWorkerData {
  readonly storeUrl: string
}

/** Loads are numbered by the thread that asks. */
export interface ToLoading {
  readonly id: number
  readonly prefixId: string
}

/** `ready` or `unable` comes first, once; each load ends with `loaded` or `failed`. */
export type FromLoading =
  | { readonly type: 'ready' }
  | { readonly type: 'unable'; readonly error: WireError }
  | { readonly type: 'loaded'; readonly id: number; readonly prefix: Prefix }
  | { readonly type: 'failed'; readonly id: number; readonly error: WireError }

/** Beside this file, in the sources and in the build alike. */
const ownEntry = new URL(`./loading-worker${path.extname(import.meta.url)}`, import.meta.url)

/** One life of the thread. */
interface Life {
  readonly worker: Worker
  readonly ready: Promise<void>
}

interface Waiting {
  readonly resolve: (prefix: Prefix) => void
  readonly reject: (error: ServiceError) => void
}

/**
 * A load reads two files and looks at every byte: some turns of an event loop, each of which would wait for a step of a thread that computes, and
 * a millisecond or more of its time. Here it takes one message each way. While nothing is loading it keeps no thread or process from ending.
 */
export class LoadingThread {
  readonly #entry: URL
  readonly #data: LoadingWorkerData
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #life: Life | null = null

  private constructor(entry: URL, data: LoadingWorkerData) {
    this.#entry = entry
    this.#data = data
  }

  /** Throws what `openStore` throws. */
  static async open(storeUrl: string, entry = ownEntry): Promise<LoadingThread> {
    const thread = new LoadingThread(entry, { storeUrl })
    thread.#life = thread.#start()
    try {
      await thread.#life.ready
    } catch (error) {
      await thread.close()
      throw error
    }
    return thread
  }

  /** As `PrefixRegistry.load`; `engine_failed` where the thread dies of it. The next load starts another one. */
  async load(prefixId: string): Promise<Prefix> {
    const life = (this.#life ??= this.#start())
    await life.ready
    // Whoever dies or is closed tells those that wait; this one was not among them yet.
    if (life !== this.#life) throw died(new Error('it was gone before it was asked'))
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      life.worker.ref()
      life.worker.postMessage({ id, prefixId } satisfies ToLoading, [])
    })
  }

  /** Loads that have not ended fail with `cancelled`. */
  async close(): Promise<void> {
    const life = this.#life
    this.#life = null
    this.#failAll(new ServiceError('cancelled', 'the service is stopping'))
    await life?.worker.terminate()
  }

  #start(): Life {
    const worker = new Worker(this.#entry, { workerData: this.#data })
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (message: FromLoading) => {
        if (message.type === 'ready') {
          worker.unref()
          resolve()
        } else if (message.type === 'unable') reject(fromWire(message.error))
        else this.#settle(message)
      })
      let crash: Error | null = null
      worker.on('error', (error: Error) => (crash = error))
      worker.on('exit', (code) => {
        const error = died(crash ?? new Error(`it ended with code ${code}`))
        reject(error)
        if (this.#life?.worker !== worker) return
        this.#life = null
        this.#failAll(error)
      })
    })
    ready.catch(() => {}) // Whoever waits for it is told.
    return { worker, ready }
  }

  #settle(message: Extract<FromLoading, { type: 'loaded' | 'failed' }>): void {
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (this.#waiting.size === 0) this.#life?.worker.unref()
    if (message.type === 'loaded') waiting?.resolve(message.prefix)
    else waiting?.reject(fromWire(message.error))
  }

  #failAll(error: ServiceError): void {
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(error)
  }
}

function died(cause: Error): ServiceError {
  return new ServiceError('engine_failed', `the thread that loads prefixes died: ${cause.message}`, {}, { cause })
}

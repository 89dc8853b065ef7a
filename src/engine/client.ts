// The engine as the main thread sees it: the same `generate`, while all the work is done in a worker, a thread or a process of its own.
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { fromWire } from '../errors/wire.ts'
import { abortable, cancelledError } from './cancellation.ts'
import type { EngineLimits } from './limits.ts'
import { EventStream } from './event-stream.ts'
import type { FromWorker, ResidentModel } from './messages.ts'
import { isCudaTried } from '../runtime/nvidia.ts'
import type { RuntimeOptions } from '../runtime/open.ts'
import type { GenerateEvent, GenerateRequest } from './request.ts'
import type { Account } from './stopwatch.ts'
import { type EngineWorker, inProcess, inThread, type WorkerPlace } from './worker-place.ts'

/** What the worker opens for itself. */
export interface EngineWorkerData {
  readonly modelFolder: string
  readonly storeUrl: string
  readonly runtime: RuntimeOptions['choice']
  /** `fast`: the form in which this machine decodes fast, and nearly as in float32. */
  readonly precision: 'float32' | 'fast'
  /** Compiled kernels of a device and weights in 8 bits are kept below it. */
  readonly data: string
  readonly cudaLibraries: readonly string[]
  /** Threads inside one operator. */
  readonly threads: number
  /** Sequences side by side. */
  readonly rowsMax: number
  readonly limits: EngineLimits
}

export interface EngineClientOptions {
  /** Requests that are open at once. */
  readonly requestsMax: number
  /** A worker that dies more often is left dead until the minute is over. */
  readonly restartsPerMinuteMax: number
  /** How long `close` waits before it ends the worker by force. */
  readonly closeWaitMs: number
  /** Told of each crash, for the log. */
  readonly onCrash?: (error: Error) => void
  /** Told what the worker warns of while it starts. */
  readonly onWarning?: (message: string) => void
  /** Told what it found out about the machine while it started. */
  readonly onNote?: (message: string) => void
}

export const defaultClientOptions: EngineClientOptions = {
  requestsMax: 1024,
  restartsPerMinuteMax: 3,
  closeWaitMs: 5000,
}

const minuteMs = 60_000
/** Accounts that may be waited for, for each request that may be open: those of clients that left come a step later. */
const accountsPerRequest = 2
/** Who may ask for figures at once: more come only while the worker cannot answer. */
const figuresMax = 16

/**
 * Starts the engine's worker; `ready()` tells whether it came up. A device of NVIDIA's that is lost stays lost for its process: where there may be one the
 * worker is a process of its own, so that the next one has it again. Everywhere else it is a thread, which costs less.
 */
export function startEngine(data: EngineWorkerData, options: Partial<EngineClientOptions> = {}): EngineClient {
  // Beside this file, in the sources and in the build alike.
  const entry = new URL(`./worker${path.extname(import.meta.url)}`, import.meta.url)
  const isCuda = isCudaTried({ choice: data.runtime, cudaLibraries: data.cudaLibraries })
  const place = isCuda ? inProcess(entry, data) : inThread(entry, data)
  return new EngineClient(place, { ...defaultClientOptions, ...options })
}

/** One life of the worker. */
interface Life {
  readonly worker: EngineWorker
  readonly ready: Promise<ResidentModel>
  readonly exited: Promise<void>
}

export class EngineClient {
  readonly #place: WorkerPlace
  readonly #options: EngineClientOptions
  readonly #open = new Map<number, EventStream<GenerateEvent>>()
  /** Who waits for the account of which request: those that were left too, until the worker has seen it. */
  readonly #accounts = new Map<number, (account: Account | null) => void>()
  readonly #figures = new Map<number, (text: string) => void>()
  /** When workers died, in ms; only those of the last minute are kept. */
  #crashesMs: number[] = []
  #lastCrash: Error | null = null
  #nextId = 1
  #life: Life | null
  /** Why it does not run: said by the first worker itself, and final. What a later one lacks may come back, as a device does. */
  #unable: ServiceError | null = null
  #wasReady = false
  #closed = false

  constructor(place: WorkerPlace, options: EngineClientOptions) {
    this.#place = place
    this.#options = options
    this.#life = this.#start()
  }

  /** The model, once it is loaded. Throws what kept the worker from starting, or `engine_failed` where it died. */
  async ready(): Promise<ResidentModel> {
    return this.#living().ready
  }

  /** The engine's figures for Prometheus; empty while there is no engine. */
  async figures(): Promise<string> {
    if (this.#life === null || this.#closed || this.#figures.size >= figuresMax) return ''
    const id = this.#nextId++
    const text = new Promise<string>((resolve) => this.#figures.set(id, resolve))
    this.#life.worker.post({ type: 'figures', id })
    return text
  }

  /**
   * As `Engine.generate`. `onEnd` is called once: before the `done` event is read and before an error of the engine is
   * thrown, but after the end where it comes by leaving; with null where the engine never had the request, or died.
   */
  async *generate(
    request: GenerateRequest,
    signal: AbortSignal,
    onEnd: (account: Account | null) => void = () => {},
  ): AsyncGenerator<GenerateEvent, void> {
    let sent = false
    try {
      yield* this.#generate(request, signal, (id) => {
        sent = true
        this.#awaitAccount(id, onEnd)
      })
    } finally {
      if (!sent) onEnd(null)
    }
  }

  async *#generate(
    request: GenerateRequest,
    signal: AbortSignal,
    onSend: (id: number) => void,
  ): AsyncGenerator<GenerateEvent, void> {
    if (signal.aborted) throw cancelledError()
    const { requestsMax } = this.#options
    if (this.#open.size >= requestsMax) {
      const message = `${this.#open.size} requests are open, and at most ${requestsMax} may be`
      throw new ServiceError('overloaded', message, { retryAfterSeconds: 1 })
    }
    const id = this.#nextId++
    const events = new EventStream<GenerateEvent>()
    let worker: EngineWorker | null = null
    // Whoever asked has left before the end: on the signal at once, even while an event is being looked at.
    const leave = (): void => {
      events.fail(cancelledError())
      if (this.#open.delete(id)) worker?.post({ type: 'cancel', id })
    }
    this.#open.set(id, events)
    signal.addEventListener('abort', leave, { once: true })
    try {
      const life = this.#living()
      await abortable(life.ready, signal)
      worker = life.worker
      if (life === this.#life) onSend(id)
      // If it died meanwhile, the stream has failed and the message goes nowhere.
      worker.post({ type: 'generate', id, request })
      yield* events.read()
    } finally {
      signal.removeEventListener('abort', leave)
      leave()
    }
  }

  /** Ends all requests with `cancelled`, and the worker. */
  async close(): Promise<void> {
    this.#closed = true
    this.#failAll(new ServiceError('cancelled', 'the service is stopping'))
    if (this.#life === null) return
    const { worker, exited } = this.#life
    worker.post({ type: 'close' })
    const timer = setTimeout(() => worker.terminate(), this.#options.closeWaitMs)
    await exited
    clearTimeout(timer)
  }

  /** The running worker, or a new one if the last has died and may be replaced. */
  #living(): Life {
    if (this.#closed) throw new ServiceError('cancelled', 'the service is stopping')
    if (this.#unable !== null) throw this.#unable
    if (this.#life !== null) return this.#life
    if (!this.#mayRestart()) {
      const message = `the engine died ${this.#crashesMs.length} times within a minute and is left alone for the rest of it`
      const cause = this.#lastCrash
      throw new ServiceError('engine_failed', `${message}: ${cause?.message}`, {}, { cause })
    }
    this.#life = this.#start()
    return this.#life
  }

  #start(): Life {
    let settle!: { resolve(model: ResidentModel): void; reject(error: ServiceError): void }
    const ready = new Promise<ResidentModel>((resolve, reject) => {
      settle = { resolve, reject }
    })
    ready.catch(() => {}) // Whoever waits for it is told; nobody has to wait.
    let setExited!: () => void
    const exited = new Promise<void>((resolve) => {
      setExited = resolve
    })
    let unable: ServiceError | null = null
    const worker = this.#place({
      onMessage: (message) => {
        if (message.type === 'ready') {
          this.#wasReady = true
          settle.resolve(message.model)
        } else if (message.type === 'warning') this.#options.onWarning?.(message.message)
        else if (message.type === 'note') this.#options.onNote?.(message.message)
        else if (message.type === 'unable') {
          unable = fromWire(message.error)
          // What was there before may be there again: whoever asks is told to try again, and why.
          if (!this.#wasReady) this.#unable = unable
          settle.reject(this.#wasReady ? engineDied(unable) : unable)
        } else if (message.type === 'figures') {
          this.#figures.get(message.id)?.(message.text)
          this.#figures.delete(message.id)
        } else this.#take(message)
      },
      onExit: (reason, isCrash) => {
        this.#buryWorker(unable ?? reason)
        setExited()
        settle.reject(engineDied(isCrash ? reason : null))
      },
    })
    return { worker, ready, exited }
  }

  #awaitAccount(id: number, onEnd: (account: Account | null) => void): void {
    this.#accounts.set(id, onEnd)
    if (this.#accounts.size <= this.#options.requestsMax * accountsPerRequest) return
    const [oldest = id] = this.#accounts.keys()
    this.#settleAccount(oldest, null)
  }

  #settleAccount(id: number, account: Account | null): void {
    const onEnd = this.#accounts.get(id)
    this.#accounts.delete(id)
    onEnd?.(account)
  }

  #take(message: Extract<FromWorker, { type: 'event' | 'failed' }>): void {
    const isLast = message.type === 'failed' || message.event.type === 'done'
    if (isLast) this.#settleAccount(message.id, message.account)
    const events = this.#open.get(message.id)
    if (events === undefined) return // It was cancelled while the message was on its way.
    if (message.type === 'event') {
      events.push(message.event)
      if (message.event.type !== 'done') return
      events.end()
    } else events.fail(fromWire(message.error))
    this.#open.delete(message.id)
  }

  #buryWorker(crash: Error): void {
    this.#life = null
    for (const id of this.#accounts.keys()) this.#settleAccount(id, null)
    for (const resolve of this.#figures.values()) resolve('')
    this.#figures.clear()
    if (this.#closed) return
    if (this.#unable !== null) {
      this.#failAll(this.#unable)
      return
    }
    this.#crashesMs.push(Date.now())
    this.#lastCrash = crash
    this.#options.onCrash?.(crash)
    this.#failAll(engineDied(crash))
    if (this.#mayRestart()) this.#life = this.#start()
  }

  #mayRestart(): boolean {
    const since = Date.now() - minuteMs
    this.#crashesMs = this.#crashesMs.filter((time) => time > since)
    return this.#crashesMs.length <= this.#options.restartsPerMinuteMax
  }

  #failAll(error: ServiceError): void {
    const open = [...this.#open.values()]
    this.#open.clear()
    for (const events of open) events.fail(error)
  }
}

function engineDied(cause: Error | null): ServiceError {
  return new ServiceError(
    'engine_failed',
    `the engine died${cause === null ? '' : `: ${cause.message}`}`,
    {},
    { cause },
  )
}

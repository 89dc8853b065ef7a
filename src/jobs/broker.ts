// The queue's server, whichever it is, and the queue classes that speak with it.
import type { EventEmitter } from 'node:events'
import path from 'node:path'
import {
  createPostgresBackend,
  Queue,
  QueueEvents,
  QueueEventsProducer,
  runMigrations,
  Worker,
  type BackendFactory,
  type ConnectionOptions,
  type Job as BullJob,
  type JobsOptions,
  type QueueBaseOptions,
  type WorkerOptions,
} from 'bullmq'
import { ServiceError } from '../errors/errors.ts'
import type { JobData } from './job.ts'
import { PglitePool } from './pglite-pool.ts'

const queueName = 'train'
const defaultKeyspace = 'preamble'

/** Finished jobs are kept this long, and no more of each kind than `finishedJobsMax`; the prefix record outlives them. */
const finishedKeptSeconds = 30 * 24 * 3_600
const finishedJobsMax = 500
/** Runs of a job that fails in a way that another run may not. */
const attemptsMax = 3
const retryDelayMsDefault = 2_000
/** Of the queue's event stream, which only wakes readers up: the history itself is kept with each job. */
const streamedEventsMax = 2_000
/** An event that comes before the first LISTEN is found by polling: soon, not after the default of ten seconds. */
const pollMs = 1_000
const postgresConnectionsMax = 12
/** Between two attempts to find a Redis again that went away. */
const reconnectMsMax = 2_000
/** To the first answer of the server at start. */
const reachMsMax = 15_000
/** To a part's goodbye: a client that was between two attempts to reach its server may never hear an answer to it. */
const closeMsMax = 2_000

/** What a job carries in the queue: the work, and whether somebody asked to end it. */
export type QueuedData = JobData & Cancellable

interface Cancellable {
  readonly cancel?: {
    /** Milliseconds since 1970. */
    readonly at: number
    /** It was not running, and will not run any more. */
    readonly waiting: boolean
    /** Times it had been started by then. */
    readonly attempts: number
  }
}

export type QueuedJob = BullJob<QueuedData, unknown>
export type TrainQueue = Queue<QueuedData, unknown, string, QueuedData, unknown, string>

/** Runs a job to its end; `signal` says when it is to stop. */
export type RunJob = (job: QueuedJob, token: string, signal: AbortSignal) => Promise<unknown>

/** A queue worker that takes jobs from `start` on, and none once it is closing. */
export class TrainWorker extends Worker<QueuedData, unknown> {
  #runJob: RunJob | null = null

  /** Starts to take jobs. Rejects when the worker ends otherwise than by closing. */
  start(runJob: RunJob): Promise<void> {
    this.#runJob = runJob
    return this.run()
  }

  /** A wait for jobs that closing interrupts ends in one more look: it would take the jobs just handed back again. */
  protected override moveToActive(token: string, name?: string): Promise<QueuedJob> {
    // That there may be no job is missing from the type, not from the code that calls this.
    const none = undefined as unknown as QueuedJob
    return this.closing === undefined ? super.moveToActive(token, name) : Promise.resolve(none)
  }

  protected override callProcessJob(job: QueuedJob, token: string, signal?: AbortSignal): Promise<unknown> {
    if (this.#runJob === null || signal === undefined) throw new Error('the worker was not started by start()')
    return this.#runJob(job, token, signal)
  }
}

export interface BrokerOptions {
  /** Queues of different keyspaces on one server know nothing of each other. */
  readonly keyspace?: string
  /** Before the second run of a failed job; doubled before the third. */
  readonly retryDelayMs?: number
  /** Told of lost connections and the like, which the queue's classes mend by themselves. */
  readonly onError?: (error: Error) => void
}

/** Opened once in a process; everything made from it closes with it. */
export interface Broker {
  readonly kind: 'redis' | 'postgres' | 'pglite'
  /** Whether other processes can work on the same queue. */
  readonly shared: boolean
  readonly queue: TrainQueue
  /** Hears what happens to any job in any process, best effort. */
  readonly listener: QueueEvents
  readonly producer: QueueEventsProducer
  worker(options: Omit<WorkerOptions, 'connection' | 'autorun'>): TrainWorker
  close(): Promise<void>
}

interface Server {
  readonly kind: Broker['kind']
  readonly name: string
  readonly base: QueueBaseOptions
  /** For callers that would rather hear at once that the server is away than wait for it. */
  readonly impatient: QueueBaseOptions
  readonly factory: BackendFactory | undefined
  /** Said before the parts are closed: a server that is away now is not waited for any more. */
  retire(): void
  close(): Promise<void>
}

/**
 * `redis://`, `rediss://`, `postgres://`, `postgresql://`, `pglite:FOLDER` or `pglite:memory`. Throws
 * `config_invalid` for any other and `queue_unavailable` when the server does not answer.
 */
export async function openBroker(url: string, options: BrokerOptions = {}): Promise<Broker> {
  const { onError = () => undefined, keyspace = defaultKeyspace } = options
  const server = await openServer(url, keyspace)
  const opened: { close(): Promise<void> }[] = []
  const keep = <T extends EventEmitter & { close(): Promise<void> }>(part: T): T => {
    part.on('error', onError)
    opened.push(part)
    return part
  }
  const { name, base, impatient } = server
  // The classes know the types of their own two back ends; which one this is stays open until now.
  const factory = server.factory as undefined
  const defaultJobOptions = jobOptions(options.retryDelayMs ?? retryDelayMsDefault)
  const streams = { events: { maxLen: streamedEventsMax } }
  const queue = keep(new Queue(name, { ...impatient, streams, defaultJobOptions }, factory))
  const listener = keep(new QueueEvents(name, { ...base, blockingTimeout: pollMs }, factory)).setMaxListeners(0)
  const producer = keep(new QueueEventsProducer(name, impatient, factory))
  const close = async (): Promise<void> => {
    server.retire()
    const whose = `the queue at ${withoutPassword(url)}`
    for (const part of opened.reverse()) await inTime(part.close(), closeMsMax, whose).catch(onError)
    await server.close()
  }
  try {
    const ready = Promise.all([queue.waitUntilReady(), listener.waitUntilReady(), producer.waitUntilReady()])
    await inTime(ready, reachMsMax, `the queue at ${withoutPassword(url)}`)
  } catch (error) {
    void close().catch(onError)
    throw error
  }
  return {
    kind: server.kind,
    shared: server.kind !== 'pglite',
    queue,
    listener,
    producer,
    worker: (settings) => keep(new TrainWorker(name, noProcessor, { ...base, ...settings, autorun: false }, factory)),
    close,
  }
}

/** Rejects with `queue_unavailable` when `answer` does, or does not come within `limitMs`. */
export async function inTime<T>(answer: Promise<T>, limitMs: number, whose: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs)
  })
  try {
    return await Promise.race([answer, late])
  } catch (error) {
    if (error instanceof ServiceError) throw error
    const message = `${whose} cannot be reached: ${(error as Error).message}`
    throw new ServiceError('queue_unavailable', message, {}, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

/** The classes insist on a processor, and make a signal only for one of three parameters; ours is given to `start`. */
const noProcessor = (_job: QueuedJob, _token?: string, _signal?: AbortSignal): Promise<never> =>
  Promise.reject(new Error('the worker was not started by start()'))

function jobOptions(retryDelayMs: number): JobsOptions {
  const finished = { age: finishedKeptSeconds, count: finishedJobsMax }
  return {
    attempts: attemptsMax,
    backoff: { type: 'exponential', delay: retryDelayMs },
    removeOnComplete: finished,
    removeOnFail: finished,
    stackTraceLimit: attemptsMax,
  }
}

async function openServer(url: string, keyspace: string): Promise<Server> {
  if (/^rediss?:\/\//.test(url)) return openRedis(url, keyspace)
  // One schema serves all: there the keyspace is a part of the queue's name.
  const name = keyspace === defaultKeyspace ? queueName : `${keyspace}-${queueName}`
  if (/^postgres(ql)?:\/\//.test(url)) return openPostgres(url, name)
  const folder = /^pglite:(.+)$/.exec(url)?.[1]
  if (folder !== undefined) return openPglite(folder === 'memory' ? null : path.resolve(folder), name)
  const schemes = 'redis://, rediss://, postgres:// or pglite:FOLDER'
  throw new ServiceError('config_invalid', `QUEUE_URL: ${withoutPassword(url)} is none of ${schemes}`)
}

function openRedis(url: string, keyspace: string): Server {
  const { protocol, hostname, port, username, password, pathname } = new URL(url)
  let isRetired = false
  const connection = {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port || 6379),
    db: Number(pathname.slice(1) || 0),
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
    maxRetriesPerRequest: null,
    retryStrategy: (times: number) => (isRetired ? null : Math.min(50 * 2 ** times, reconnectMsMax)),
  }
  const base = { connection, prefix: keyspace }
  const impatient = { connection: { ...connection, enableOfflineQueue: false }, prefix: keyspace }
  return {
    kind: 'redis',
    name: queueName,
    base,
    impatient,
    factory: undefined,
    retire: () => void (isRetired = true),
    close: () => Promise.resolve(),
  }
}

async function openPostgres(url: string, name: string): Promise<Server> {
  const { default: pg } = await import('pg')
  const pool = new pg.Pool({
    connectionString: url,
    max: postgresConnectionsMax,
    keepAlive: true,
    connectionTimeoutMillis: reachMsMax,
    options: '-c search_path=bullmq',
  })
  // An idle connection that breaks is replaced by the pool, but an event nobody listens to would end the process.
  pool.setMaxListeners(0).on('error', () => undefined)
  return overSql('postgres', name, pool, () => pool.end(), withoutPassword(url))
}

async function openPglite(directory: string | null, name: string): Promise<Server> {
  const pool = await PglitePool.open(directory)
  return overSql('pglite', name, pool, () => pool.close(), `pglite:${directory ?? 'memory'}`)
}

async function overSql(
  kind: Broker['kind'],
  name: string,
  pool: { connect(): Promise<Parameters<typeof runMigrations>[0] & { release(): void }> },
  close: () => Promise<void>,
  address: string,
): Promise<Server> {
  try {
    const client = await inTime(pool.connect(), reachMsMax, `the queue at ${address}`)
    try {
      await runMigrations(client)
    } finally {
      client.release()
    }
  } catch (error) {
    await close()
    throw error
  }
  const base = { connection: pool as unknown as ConnectionOptions }
  const factory = createPostgresBackend as unknown as BackendFactory
  return { kind, name, base, impatient: base, factory, retire: () => undefined, close }
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//***@')
}

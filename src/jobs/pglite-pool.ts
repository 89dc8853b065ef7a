// PostgreSQL inside this process, in the shape of the connection pool that the queue expects.
import { EventEmitter } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { PGlite, types } from '@electric-sql/pglite'
import { DirectoryInUseError, lockDirectory } from './directory-lock.ts'
import { ServiceError } from '../errors/errors.ts'

/** There is no autovacuum here, and every progress report leaves a dead row behind. */
const vacuumEveryMs = 60 * 60 * 1_000
/** The queue is a few megabytes; PostgreSQL would set aside 128. */
const settings = ['shared_buffers=8MB', 'max_wal_size=64MB', 'min_wal_size=32MB']

interface QueryResult {
  // As in node-postgres, whose shape this is.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly rows: any[]
  readonly rowCount: number
}

/** All clients share the one session there is; only notifications are handed out to each of them. */
class PgliteClient extends EventEmitter {
  /** Asked for by the queue to keep a socket alive; there is none. */
  readonly connection = { stream: { setKeepAlive: (): void => undefined } }
  readonly #pool: PglitePool

  constructor(pool: PglitePool) {
    super()
    this.#pool = pool
    this.setMaxListeners(0)
  }

  query(text: string, parameters?: readonly unknown[]): Promise<QueryResult> {
    return this.#pool.query(text, parameters)
  }

  release(): void {
    this.#pool.forget(this)
  }
}

export class PglitePool extends EventEmitter {
  readonly options = { keepAlive: true }
  readonly #database: PGlite
  readonly #unlock: () => Promise<void>
  readonly #clients = new Set<PgliteClient>()
  readonly #vacuumTimer: NodeJS.Timeout

  private constructor(database: PGlite, unlock: () => Promise<void>) {
    super()
    this.setMaxListeners(0)
    this.#database = database
    this.#unlock = unlock
    database.onNotification((channel, payload) => {
      for (const client of this.#clients) client.emit('notification', { channel, payload })
    })
    this.#vacuumTimer = setInterval(() => {
      database.exec('VACUUM').catch((error: unknown) => this.emit('error', error))
    }, vacuumEveryMs).unref()
  }

  /** `directory` null: in memory, gone with the process. Throws `config_invalid` where another process has it open. */
  static async open(directory: string | null): Promise<PglitePool> {
    const unlock = directory === null ? () => Promise.resolve() : await lock(directory)
    try {
      const database = await PGlite.create({
        dataDir: directory ?? 'memory://',
        // As node-postgres does, because the queue reads them so.
        parsers: { [types.INT8]: (digits: string) => digits },
        postgresqlconf: settings,
      })
      await database.exec('CREATE SCHEMA IF NOT EXISTS bullmq; SET search_path TO bullmq, public')
      await database.exec('VACUUM')
      return new PglitePool(database, unlock)
    } catch (error) {
      await unlock()
      throw error
    }
  }

  async query(text: string, parameters?: readonly unknown[]): Promise<QueryResult> {
    try {
      if (parameters !== undefined && parameters.length > 0) {
        const values = parameters.map((value) => value ?? null)
        const { rows, affectedRows } = await this.#database.query(text, values)
        return { rows, rowCount: affectedRows ?? rows.length }
      }
      const last = (await this.#database.exec(text)).at(-1)
      return { rows: last?.rows ?? [], rowCount: last?.affectedRows ?? 0 }
    } finally {
      // The answer comes without the event loop ever turning: let timers and sockets have theirs.
      await setImmediate()
    }
  }

  connect(): Promise<PgliteClient> {
    const client = new PgliteClient(this)
    this.#clients.add(client)
    return Promise.resolve(client)
  }

  forget(client: PgliteClient): void {
    this.#clients.delete(client)
  }

  /** The queue's classes call it; whoever opened the pool closes it. */
  end(): Promise<void> {
    return Promise.resolve()
  }

  async close(): Promise<void> {
    clearInterval(this.#vacuumTimer)
    await this.#database.close()
    await this.#unlock()
  }
}

async function lock(directory: string): Promise<() => Promise<void>> {
  try {
    return await lockDirectory(directory)
  } catch (error) {
    if (!(error instanceof DirectoryInUseError)) throw error
    const remedy = 'end that one, or set QUEUE_URL to redis:// or postgres:// to run several processes'
    const message = `QUEUE_URL: the embedded queue at ${directory} is open in another process; ${remedy}`
    throw new ServiceError('config_invalid', message, {}, { cause: error })
  }
}

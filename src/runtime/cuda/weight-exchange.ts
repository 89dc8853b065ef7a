// Weights that one process has on the device and others use: the engine lends them, trainings borrow; handles lie in files.
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { atThreadEnd, type Driver } from './driver.ts'

export interface ExchangeOptions {
  /** Where handles lie. Made when first needed. */
  readonly folder: string
  /** One thread at a time lends. */
  readonly role: 'lends' | 'borrows'
  /** Hears once why memory is not shared. */
  readonly warn: (message: string) => void
  /** Smaller weights are copied. */
  readonly bytesMin?: number
}

/** Below it the driver puts several allocations into one piece of memory, and a handle is one of the whole piece. */
const bytesMinDefault = 2 * 2 ** 20

interface Lent {
  readonly process: number
  /** Of the thread that lends, by which borrowers know that it still does. */
  readonly lender: string
  readonly bytes: number
  /** In hexadecimal digits. */
  readonly handle: string
}

export class WeightExchange {
  readonly #driver: Driver
  readonly #options: ExchangeOptions
  readonly #device: string
  readonly #borrowed = new Set<bigint>()
  readonly #lent = new Set<bigint>()
  readonly #onGone: (error: Error) => void
  /** Of this thread where it lends; of those from whom it has borrowed where it does that. */
  #lender: string | null = null
  /** Where it runs; null where this thread lends. */
  #lenderProcess: number | null = null
  #isRefused = false

  /** `onGone` hears that what was borrowed is no more: whoever hears it ends the process. */
  constructor(driver: Driver, options: ExchangeOptions, onGone: (error: Error) => void = () => undefined) {
    this.#driver = driver
    this.#options = options
    this.#onGone = onGone
    this.#device = driver.facts(0).uuid
  }

  /** To be called behind each run. Throws where the lender has ended: memory that is freed while others have it open is undefined in CUDA. */
  confirm(): void {
    if (this.#borrowed.size === 0 || (this.#currentLender() === this.#lender && this.#isLenderAlive())) return
    const error = new Error('the engine that lent its weights on the device has ended')
    this.#onGone(error)
    throw error
  }

  /** null: nobody lends it. `isRight` is asked before it is trusted. */
  borrow(key: string, bytes: number, isRight: (address: bigint) => boolean): bigint | null {
    if (this.#options.role !== 'borrows' || !this.#concerns(bytes)) return null
    const lent = readLent(this.#file(key))
    if (lent === null || lent.bytes !== bytes || !isAlive(lent.process)) return null
    // All that is borrowed is of one lender, and of one that has not ended.
    if (lent.lender !== (this.#lender ?? lent.lender) || lent.lender !== this.#currentLender()) return null
    try {
      const address = this.#driver.openShared(Buffer.from(lent.handle, 'hex'))
      if (isRight(address)) {
        this.#borrowed.add(address)
        this.#lender = lent.lender
        this.#lenderProcess = lent.process
        return address
      }
      this.#driver.closeShared(address)
    } catch (error) {
      this.#refuse(error)
    }
    return null
  }

  lend(key: string, bytes: number, address: bigint): void {
    const { role, folder } = this.#options
    if (role !== 'lends' || !this.#concerns(bytes)) return
    try {
      const handle = Buffer.from(this.#driver.share(address)).toString('hex')
      // Others may be using it for as long as this process lives.
      this.#lent.add(address)
      mkdirSync(folder, { recursive: true })
      const lender = (this.#lender ??= this.#announce())
      const lent: Lent = { process: process.pid, lender, bytes, handle }
      writeWhole(this.#file(key), JSON.stringify(lent))
    } catch (error) {
      this.#refuse(error)
    }
  }

  /** Memory of `lend` stays; the rest is given back. */
  free(address: bigint): void {
    if (this.#lent.has(address)) return
    if (this.#borrowed.delete(address)) this.#driver.closeShared(address)
    else this.#driver.free(address)
  }

  /** Says who lends, until the thread ends; before its memory goes. */
  #announce(): string {
    const lender = randomUUID()
    writeWhole(this.#lenderFile, lender)
    atThreadEnd(() => {
      if (this.#currentLender() === lender) rmSync(this.#lenderFile, { force: true })
    })
    return lender
  }

  get #lenderFile(): string {
    return path.join(this.#options.folder, 'lender')
  }

  /** null: nobody. */
  #currentLender(): string | null {
    try {
      return readFileSync(this.#lenderFile, 'utf8')
    } catch {
      return null
    }
  }

  /** One that was killed could not say so. */
  #isLenderAlive(): boolean {
    return this.#lenderProcess !== null && isAlive(this.#lenderProcess)
  }

  #concerns(bytes: number): boolean {
    return !this.#isRefused && bytes >= (this.#options.bytesMin ?? bytesMinDefault)
  }

  #refuse(error: unknown): void {
    this.#isRefused = true
    const what =
      this.#options.role === 'lends' ? 'are not lent to trainings' : 'are copied, not borrowed from the engine'
    this.#options.warn(`weights on the device ${what}: ${(error as Error).message}`)
  }

  #file(key: string): string {
    const name = createHash('sha256')
      .update(JSON.stringify([this.#device, key]))
      .digest('hex')
    return path.join(this.#options.folder, `${name}.json`)
  }
}

/** Whole or not at all: another process may be looking. */
function writeWhole(file: string, text: string): void {
  const temporary = `${file}.${randomUUID()}`
  writeFileSync(temporary, text)
  renameSync(temporary, file)
}

/** null where there is none, or one that was damaged. */
function readLent(file: string): Lent | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Lent
  } catch {
    return null
  }
}

/** Another process; memory of one's own is not opened by a handle. */
function isAlive(id: number): boolean {
  if (id === process.pid) return false
  try {
    return process.kill(id, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

// An object store in a folder of the file system: one file for each key, always whole.
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as nodeFiles from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { checkKey, checkPath } from './key.ts'
import type { ObjectStore } from './store.ts'

/** What is used of `node:fs/promises`; tests put failing disks in its place. */
export type FileSystem = Pick<
  typeof nodeFiles,
  'access' | 'link' | 'mkdir' | 'open' | 'readdir' | 'readFile' | 'rename' | 'stat' | 'unlink'
>

/**
 * Reads a file in one go, and holds up the thread meanwhile: for one that has nothing else to do. Other reads wait for a thread of libuv
 * four times a file, and where all cores are busy each wait is long.
 */
export const blockingFiles: FileSystem = {
  ...nodeFiles,
  readFile: (async (path: string) => readFileSync(path)) as FileSystem['readFile'],
}

/** No key may contain this character, so a temporary file is never taken for an object. */
const TEMPORARY_MARK = '~'
/** A writer that has not finished after this time is dead. */
const temporaryAgeMsMax = 60 * 60 * 1000

/**
 * An object is written to a temporary file beside its place, flushed, and then moved in: rename and link are atomic,
 * so a reader, a crash or a full disk meets the old bytes or the new ones.
 */
export class FolderStore implements ObjectStore {
  readonly #folder: string
  readonly #files: FileSystem

  private constructor(folder: string, files: FileSystem) {
    this.#folder = folder
    this.#files = files
  }

  /** Makes the folder where it is missing and clears away what killed writers left in it. */
  static async open(folder: string, files: FileSystem = nodeFiles): Promise<FolderStore> {
    const store = new FolderStore(resolve(folder), files)
    try {
      await files.mkdir(store.#folder, { recursive: true })
      await store.#removeLeftovers(store.#folder)
      await store.ping()
    } catch (cause) {
      throw cause instanceof ServiceError ? cause : store.#unavailable(cause)
    }
    return store
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const path = this.#path(key)
    await this.#write(key, bytes, async (temporary) => {
      await this.#files.rename(temporary, path)
    })
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean> {
    const path = this.#path(key)
    if (await this.#exists(path)) return false // Spares the writing; the link below is what decides.
    return this.#write(key, bytes, async (temporary) => {
      try {
        await this.#files.link(temporary, path)
        return true
      } catch (error) {
        if (codeOf(error) === 'EEXIST') return false
        throw error
      } finally {
        await this.#files.unlink(temporary)
      }
    })
  }

  async get(key: string): Promise<Uint8Array | null> {
    const path = this.#path(key)
    try {
      const buffer = await this.#files.readFile(path)
      return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    } catch (error) {
      if (isAbsent(error)) return null
      throw this.#unavailable(error)
    }
  }

  async *list(path: string, after = ''): AsyncIterable<string> {
    checkPath(path)
    try {
      yield* this.#walk('', path, after)
    } catch (error) {
      throw this.#unavailable(error)
    }
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key)
    try {
      await this.#files.unlink(path)
      await this.#flushFolder(dirname(path))
    } catch (error) {
      if (!isAbsent(error)) throw this.#unavailable(error)
    }
  }

  async ping(): Promise<void> {
    try {
      await this.#files.access(this.#folder, nodeFiles.constants.R_OK | nodeFiles.constants.W_OK)
    } catch (cause) {
      throw this.#unavailable(cause)
    }
  }

  #path(key: string): string {
    checkKey(key)
    return join(this.#folder, key)
  }

  async #write<T>(key: string, bytes: Uint8Array, moveIn: (temporary: string) => Promise<T>): Promise<T> {
    const folder = dirname(this.#path(key))
    const temporary = join(folder, `${TEMPORARY_MARK}${process.pid}-${randomBytes(8).toString('hex')}`)
    try {
      await this.#makeFolder(folder)
      const file = await this.#files.open(temporary, 'wx')
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      const result = await moveIn(temporary)
      await this.#flushFolder(folder)
      return result
    } catch (cause) {
      await this.#files.unlink(temporary).catch(() => {}) // Mostly it is not there; what stays is cleared at next open.
      if (isFull(cause)) {
        const message = `no space left in ${this.#folder} for ${key} (${bytes.length} bytes)`
        throw new ServiceError('store_full', message, { key, bytes: bytes.length }, { cause })
      }
      throw this.#unavailable(cause)
    }
  }

  /** A new folder is only there for good once the folder that holds it is flushed. */
  async #makeFolder(folder: string): Promise<void> {
    const first = await this.#files.mkdir(folder, { recursive: true })
    if (first === undefined) return
    const top = dirname(first)
    for (let made = folder; made !== top; made = dirname(made)) await this.#flushFolder(dirname(made))
  }

  async #flushFolder(folder: string): Promise<void> {
    if (process.platform === 'win32') return // Folders cannot be opened there.
    const handle = await this.#files.open(folder, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  async #exists(path: string): Promise<boolean> {
    try {
      return (await this.#files.stat(path)).isFile()
    } catch (error) {
      if (isAbsent(error)) return false
      throw this.#unavailable(error)
    }
  }

  /** `below` is '' or a key's beginning that ends with '/'. */
  async *#walk(below: string, path: string, after: string): AsyncIterable<string> {
    const entries = await this.#entries(join(this.#folder, below))
    // A folder sorts as its name with the '/' of its keys: 'a-b' < 'a.b' < 'a/b' in byte order.
    const names = entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort()
    for (const name of names) {
      const key = below + name
      if (!key.endsWith('/')) {
        if (key.startsWith(path) && key > after) yield key
      } else if ((key.startsWith(path) || path.startsWith(key)) && (key > after || after.startsWith(key))) {
        yield* this.#walk(key, path, after)
      }
    }
  }

  async #entries(folder: string) {
    try {
      const entries = await this.#files.readdir(folder, { withFileTypes: true })
      return entries.filter((entry) => !entry.name.includes(TEMPORARY_MARK) && (entry.isFile() || entry.isDirectory()))
    } catch (error) {
      if (isAbsent(error) && folder !== this.#folder) return [] // Removed by someone since it was listed.
      throw error
    }
  }

  async #removeLeftovers(folder: string): Promise<void> {
    for (const entry of await this.#files.readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        await this.#removeLeftovers(path)
      } else if (entry.name.startsWith(TEMPORARY_MARK)) {
        await this.#removeIfOld(path)
      }
    }
  }

  async #removeIfOld(path: string): Promise<void> {
    try {
      const { mtimeMs } = await this.#files.stat(path)
      if (Date.now() - mtimeMs > temporaryAgeMsMax) await this.#files.unlink(path)
    } catch (error) {
      if (!isAbsent(error)) throw error // Another process clears away too.
    }
  }

  #unavailable(cause: unknown): ServiceError {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const message = `the store folder ${this.#folder} cannot be used: ${reason}`
    return new ServiceError('store_unavailable', message, { folder: this.#folder }, { cause })
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR'].includes(String(codeOf(error)))
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(String(codeOf(error)))
}

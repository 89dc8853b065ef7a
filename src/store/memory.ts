// An object store in memory, for tests and for trying the service out.
import { checkKey, checkPath } from './key.ts'
import type { ObjectStore } from './store.ts'

export class MemoryStore implements ObjectStore {
  readonly #objects = new Map<string, Uint8Array>()

  async put(key: string, bytes: Uint8Array): Promise<void> {
    checkKey(key)
    this.#objects.set(key, new Uint8Array(bytes))
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean> {
    checkKey(key)
    if (this.#objects.has(key)) return false
    this.#objects.set(key, new Uint8Array(bytes))
    return true
  }

  async get(key: string): Promise<Uint8Array | null> {
    checkKey(key)
    const bytes = this.#objects.get(key)
    return bytes === undefined ? null : new Uint8Array(bytes)
  }

  async *list(path: string, after = ''): AsyncIterable<string> {
    checkPath(path)
    yield* [...this.#objects.keys()].filter((key) => key.startsWith(path) && key > after).sort()
  }

  async delete(key: string): Promise<void> {
    checkKey(key)
    this.#objects.delete(key)
  }

  async ping(): Promise<void> {}
}

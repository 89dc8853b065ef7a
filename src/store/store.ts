// Where bytes are kept: an object store, as small as the service needs it.

/**
 * Keys are relative paths of [A-Za-z0-9._-] segments joined by '/', at most 512 characters (a segment 128). No key may be
 * the beginning of another's path: where `a/b` is kept, `a` is not a key, since a folder has no room for both.
 */
export interface ObjectStore {
  /**
   * Replaces what `key` held. A reader sees the old bytes or the new ones, never a mixture. When it answers, the bytes
   * are on stable storage. Throws `store_full` or `store_unavailable`; what `key` held before is then still whole.
   */
  put(key: string, bytes: Uint8Array): Promise<void>
  /** Writes only where nothing was kept under `key`; false when something was. Of two racing writers one wins. */
  putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean>
  /** `null` when nothing is kept under `key`. */
  get(key: string): Promise<Uint8Array | null>
  /** Keys that begin with `path`, in byte order, those after `after` only. */
  list(path: string, after?: string): AsyncIterable<string>
  /** Deleting what is not there is no error. */
  delete(key: string): Promise<void>
  /** Throws `store_unavailable` when the store cannot be reached. */
  ping(): Promise<void>
}

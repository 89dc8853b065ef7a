// Opens the object store that an address names: a folder, or a bucket of an S3 service.
import { fileURLToPath } from 'node:url'
import { ServiceError } from '../errors/errors.ts'
import { blockingFiles, type FileSystem, FolderStore } from './folder.ts'
import type { ObjectStore } from './store.ts'

export interface OpenStoreOptions {
  /** Reads of a folder hold up the thread that asks, and are there sooner. */
  readonly blocking?: boolean
}

/** `./folder`, `file:./folder`, `file:///folder` or `s3://bucket/path`. */
export async function openStore(url: string, { blocking = false }: OpenStoreOptions = {}): Promise<ObjectStore> {
  const files: FileSystem | undefined = blocking ? blockingFiles : undefined
  if (url.startsWith('s3://')) {
    const { S3Store } = await import('./s3.ts') // Loads the client, 20 MB of it, only for those who use it.
    return S3Store.open(url)
  }
  if (url.startsWith('file://')) return FolderStore.open(fileURLToPath(url), files)
  if (url.startsWith('file:')) return FolderStore.open(url.slice('file:'.length), files)
  if (url === '' || /^[a-z][a-z0-9+.-]+:/i.test(url)) {
    const message = `the store ${JSON.stringify(url)} is neither a folder nor s3://bucket/path`
    throw new ServiceError('config_invalid', message, { url })
  }
  return FolderStore.open(url, files)
}

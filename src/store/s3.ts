// An object store in a bucket of an S3 service.
import type { S3Client } from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { ServiceError } from '../errors/errors.ts'
import { checkKey, checkPath } from './key.ts'
import type { ObjectStore } from './store.ts'

type S3Module = typeof import('@aws-sdk/client-s3')

const attemptsMax = 4
const connectMsMax = 5_000
const requestMsMax = 60_000
/** A conditional write that meets another one at the same instant is answered 409: ask again. */
const conflictsMax = 5
/** The client repeats requests, but not an answer that breaks off, or fails its checksum, while it is read. */
const readsMax = 3

/** Credentials, region and endpoint are found by the client itself: environment, profile, container or instance role. */
export class S3Store implements ObjectStore {
  readonly #s3: S3Module
  readonly #client: S3Client
  readonly #bucket: string
  /** '' or a path that ends with '/'; stands before every key. */
  readonly #root: string
  readonly #host: string

  private constructor(s3: S3Module, client: S3Client, bucket: string, root: string, host: string) {
    this.#s3 = s3
    this.#client = client
    this.#bucket = bucket
    this.#root = root
    this.#host = host
  }

  /** `url` is `s3://bucket` or `s3://bucket/path`. Asks the service nothing yet. */
  static async open(url: string, env: Readonly<Record<string, string | undefined>> = process.env): Promise<S3Store> {
    const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9._/-]*))?$/.exec(url)
    const path = (match?.[2] ?? '').replace(/\/+$/, '')
    if (!match?.[1] || path.startsWith('/') || path.includes('//')) {
      throw new ServiceError('config_invalid', `the store ${JSON.stringify(url)} is not s3://bucket/path`, { url })
    }
    // The version is pinned; the client's notice about later ones and Node 20 says nothing to whoever runs this.
    process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true'
    const s3 = await import('@aws-sdk/client-s3')
    const endpoint = env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL']
    const region = env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? (endpoint ? 'us-east-1' : undefined)
    const client = new s3.S3Client({
      maxAttempts: attemptsMax,
      requestHandler: { connectionTimeout: connectMsMax, requestTimeout: requestMsMax, throwOnRequestTimeout: true },
      // Servers at an endpoint of one's own rarely have a host name for each bucket.
      ...(endpoint ? { endpoint, forcePathStyle: true } : {}),
      ...(region ? { region } : {}),
    })
    const host = endpoint ? hostOf(endpoint) : `s3.${region ?? 'amazonaws'}.amazonaws.com`
    return new S3Store(s3, client, match[1], path === '' ? '' : `${path}/`, host)
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    checkKey(key)
    await this.#ask(`write ${key} (${bytes.length} bytes)`, () => this.#client.send(this.#putCommand(key, bytes)))
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean> {
    checkKey(key)
    return this.#ask(`write ${key} (${bytes.length} bytes)`, async () => {
      for (let conflicts = 0; ; conflicts++) {
        try {
          await this.#client.send(this.#putCommand(key, bytes, '*'))
          return true
        } catch (error) {
          const status = statusOf(error)
          if (status === 412) return false
          if (status !== 409 || conflicts === conflictsMax) throw error
        }
      }
    })
  }

  async get(key: string): Promise<Uint8Array | null> {
    checkKey(key)
    return this.#ask(`read ${key}`, async () => {
      for (let reads = 1; ; reads++) {
        const body = await this.#body(key)
        try {
          return body && (await body.transformToByteArray())
        } catch (error) {
          if (reads === readsMax) throw error
        }
      }
    })
  }

  async *list(path: string, after?: string): AsyncIterable<string> {
    checkPath(path)
    let token: string | undefined
    do {
      const command = new this.#s3.ListObjectsV2Command({
        Bucket: this.#bucket,
        Prefix: this.#root + path,
        ...(after ? { StartAfter: this.#root + after } : {}),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      })
      const page = await this.#ask(`list ${path}`, () => this.#client.send(command))
      for (const { Key: key } of page.Contents ?? []) {
        if (key !== undefined && !key.endsWith('/')) yield key.slice(this.#root.length)
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  }

  async delete(key: string): Promise<void> {
    checkKey(key)
    const command = new this.#s3.DeleteObjectCommand({ Bucket: this.#bucket, Key: this.#root + key })
    await this.#ask(`delete ${key}`, () => this.#client.send(command))
  }

  async ping(): Promise<void> {
    const command = new this.#s3.ListObjectsV2Command({ Bucket: this.#bucket, Prefix: this.#root, MaxKeys: 1 })
    await this.#ask('list', () => this.#client.send(command))
  }

  async #body(key: string) {
    try {
      const command = new this.#s3.GetObjectCommand({ Bucket: this.#bucket, Key: this.#root + key })
      return (await this.#client.send(command)).Body ?? null
    } catch (error) {
      if (error instanceof this.#s3.NoSuchKey) return null
      throw error
    }
  }

  #putCommand(key: string, bytes: Uint8Array, ifNoneMatch?: '*') {
    return new this.#s3.PutObjectCommand({
      Bucket: this.#bucket,
      Key: this.#root + key,
      Body: bytes,
      // The server refuses bytes that were changed on the way.
      ChecksumSHA256: createHash('sha256').update(bytes).digest('base64'),
      ...(ifNoneMatch === undefined ? {} : { IfNoneMatch: ifNoneMatch }),
    })
  }

  async #ask<T>(what: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request()
    } catch (cause) {
      const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)
      const message = `bucket ${this.#bucket} at ${this.#host}: cannot ${what}: ${reason}`
      const details = { bucket: this.#bucket, host: this.#host }
      throw new ServiceError(isFull(cause) ? 'store_full' : 'store_unavailable', message, details, { cause })
    }
  }
}

function hostOf(endpoint: string): string {
  if (URL.canParse(endpoint)) return new URL(endpoint).host
  throw new ServiceError('config_invalid', `AWS_ENDPOINT_URL ${JSON.stringify(endpoint)} is not a URL`)
}

function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined
  return (error.$metadata as { readonly httpStatusCode?: number }).httpStatusCode
}

/** 507 is Insufficient Storage; the names are those of servers that can be full. */
function isFull(error: unknown): boolean {
  const names = ['QuotaExceeded', 'XMinioStorageFull', 'InsufficientStorage']
  return statusOf(error) === 507 || (error instanceof Error && names.includes(error.name))
}

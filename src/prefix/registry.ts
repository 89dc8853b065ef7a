// All prefixes the service knows: their records, the versions under a name, and their artifacts, in an object store.
import { createHash } from 'node:crypto'
import { ServiceError } from '../errors/errors.ts'
import type { ObjectStore } from '../store/store.ts'
import { decodePrefix, encodePrefix } from './artifact.ts'
import { deleteEvaluations } from './evaluations.ts'
import { BriefMemory } from './brief-memory.ts'
import { checkName, isPrefixId, newId, notFound, parseReference } from './ids.ts'
import { buryVersion, claimVersion, newestFirst, readEntry } from './names.ts'
import type { Prefix } from './prefix.ts'
import type { PrefixRecord } from './record.ts'

export type NewPrefix = Pick<
  PrefixRecord,
  'name' | 'jobId' | 'model' | 'tokenizerSha256' | 'template' | 'prefixLength' | 'training' | 'dataset'
> &
  Partial<Pick<PrefixRecord, 'validation' | 'fineTuning'>>

/** What names a prefix never changes. */
export type PrefixChanges = Partial<Omit<PrefixRecord, 'id' | 'name' | 'version' | 'createdAt' | 'updatedAt'>>

export interface PrefixQuery {
  readonly limit: number
  /** The `next` of the page before. */
  readonly cursor?: string
  /** Versions of this name only. */
  readonly name?: string
}

export interface PrefixPage {
  readonly data: readonly PrefixRecord[]
  readonly next: string | null
}

const pageMax = 1_000
/** Records read side by side. */
const readsMax = 16
/**
 * A generation reads its prefix's name, version and record anew, on S3 three round trips. So long they are taken from memory; what
 * another process changes is seen so much later.
 */
const readyMs = 1_000
const readyMax = 4_096

/**
 * Keys: `prefixes/ID.json` the record; `names/NAME/VERSION` an id; `artifacts/SHA256.safetensors`, written once;
 * `uses/SHA256/ID`, there while the prefix of that id may need the artifact; `deleted/ID`, there for ever, so that a
 * writer in another process cannot bring a deleted prefix back. Several processes may share a store: nothing but
 * changes to one record by two of them at the same time can be lost.
 */
export class PrefixRegistry {
  readonly #store: ObjectStore
  /** The last change to each record that is being changed: the next one waits for it. */
  readonly #turns = new Map<string, Promise<unknown>>()
  /** What references meant a moment ago. */
  readonly #ready = new BriefMemory<PrefixRecord>(readyMs, readyMax)

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /** A queued prefix, with the next version where it has a name. Throws `invalid_request` for a bad name. */
  async create(input: NewPrefix): Promise<PrefixRecord> {
    if (input.name !== null) checkName(input.name)
    const id = newId('pfx')
    // From here until the record is written, the version is passed over by those who look for it.
    const version = input.name === null ? null : await claimVersion(this.#store, input.name, id)
    const now = new Date().toISOString()
    const record: PrefixRecord = {
      id,
      version,
      status: 'queued',
      createdAt: now,
      updatedAt: now,
      ...pickNew(input),
      bytes: null,
      artifactSha256: null,
      step: 0,
      steps: null,
      loss: null,
      validationLoss: null,
      metrics: {},
      samples: [],
      error: null,
    }
    await this.#write(record)
    return record
  }

  /** By id, by name (its latest version) or by name@version. Throws `prefix_not_found`. */
  async find(idOrName: string): Promise<PrefixRecord> {
    for await (const record of this.#candidates(idOrName)) return record
    throw notFound(idOrName)
  }

  /** As `find`, but a bare name means its latest ready version. Throws `prefix_not_found` or `prefix_not_ready`. */
  findReady(idOrName: string): Promise<PrefixRecord> {
    return this.#ready.getOr(idOrName, () => this.#findReady(idOrName))
  }

  async #findReady(idOrName: string): Promise<PrefixRecord> {
    let newest: PrefixRecord | null = null
    for await (const record of this.#candidates(idOrName)) {
      if (record.status === 'ready') return record
      newest ??= record
    }
    throw newest === null ? notFound(idOrName) : notReady(newest)
  }

  /** Changes of one record follow each other: none is lost in this process. Throws `prefix_not_found`. */
  async update(id: string, changes: PrefixChanges): Promise<PrefixRecord> {
    return this.#inTurn(id, async () => {
      const record = await this.#read(id)
      if (record === null) throw notFound(id)
      const { name, version, createdAt } = record
      const updatedAt = new Date().toISOString()
      const changed = { ...record, ...changes, id, name, version, createdAt, updatedAt }
      await this.#write(changed)
      // Deleted by another process since it was read: what was just written must go again.
      if ((await this.#store.get(`deleted/${id}`)) === null) return changed
      await this.#store.delete(recordKey(id))
      throw notFound(id)
    })
  }

  /** The newest first: over all prefixes in order of their ids, under a name in order of its versions. */
  async list({ limit, cursor, name }: PrefixQuery): Promise<PrefixPage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > pageMax) {
      throw new ServiceError('invalid_request', `limit is ${limit}, it must be a whole number from 1 to ${pageMax}`)
    }
    if (name === undefined) return this.#listAll(limit, cursor)
    checkName(name)
    return this.#listName(name, limit, cursor)
  }

  /** Writes the artifact, then the record as ready. Harmless if done twice; a published prefix never changes. */
  async publish(id: string, prefix: Prefix, changes: PrefixChanges = {}): Promise<PrefixRecord> {
    const bytes = encodePrefix(prefix)
    const sha256 = hash(bytes)
    const { status, artifactSha256 } = await this.find(id)
    if (status === 'ready' && artifactSha256 !== sha256) {
      const message = `the prefix ${id} is ready with the artifact ${artifactSha256} and cannot become ${sha256}`
      throw new ServiceError('prefix_invalid', message, { prefix: id })
    }
    await this.#store.put(useKey(sha256, id), new Uint8Array(0))
    await this.#store.putIfAbsent(artifactKey(sha256), bytes)
    const { template, prefixLength, tokenizerSha256 } = prefix.header
    try {
      return await this.update(id, {
        template,
        prefixLength,
        tokenizerSha256,
        ...changes,
        error: null,
        status: 'ready',
        bytes: bytes.length,
        artifactSha256: sha256,
      })
    } catch (error) {
      if (error instanceof ServiceError && error.code === 'prefix_not_found') await this.#release(sha256, id)
      throw error
    }
  }

  /** The bytes as stored, checked against their hash. Throws `prefix_not_ready` or `prefix_invalid`. */
  async artifact(record: PrefixRecord): Promise<Uint8Array> {
    const { id, artifactSha256: sha256 } = record
    if (record.status !== 'ready' || sha256 === null) throw notReady(record)
    const bytes = await this.#store.get(artifactKey(sha256))
    if (bytes === null) {
      throw new ServiceError('prefix_invalid', `the artifact ${sha256} of the prefix ${id} is missing`, { prefix: id })
    }
    const found = hash(bytes)
    if (found === sha256) return bytes
    const message = `the artifact of the prefix ${id} is damaged: its sha256 is ${found}, the record says ${sha256}`
    throw new ServiceError('prefix_invalid', message, { prefix: id, sha256: found, recordSha256: sha256 })
  }

  /** Throws `prefix_not_found`, `prefix_not_ready` or `prefix_invalid`. */
  async load(idOrName: string): Promise<Prefix> {
    return decodePrefix(await this.artifact(await this.#findReady(idOrName)))
  }

  /** The version stays taken. The artifact goes with its last user. Throws `prefix_not_found`. */
  async delete(id: string): Promise<void> {
    await this.#inTurn(id, async () => {
      const record = await this.#read(id)
      if (record === null) throw notFound(id)
      await this.#store.put(`deleted/${id}`, new Uint8Array(0))
      await this.#store.delete(recordKey(id))
      this.#ready.clear()
      await deleteEvaluations(this.#store, id)
      if (record.name !== null && record.version !== null) {
        await buryVersion(this.#store, record.name, record.version)
      }
      if (record.artifactSha256 !== null) await this.#release(record.artifactSha256, id)
    })
  }

  /** Records that `idOrName` may mean, the newest first. An entry without a record is one being made or deleted. */
  async *#candidates(idOrName: string): AsyncIterable<PrefixRecord> {
    const reference = parseReference(idOrName)
    if (reference.by === 'id') {
      const record = await this.#read(reference.id)
      if (record !== null) yield record
      return
    }
    const { name, version } = reference
    if (version !== null) {
      const id = await readEntry(this.#store, name, version)
      const record = id && (await this.#read(id))
      if (record) yield record
      return
    }
    for await (const { id } of newestFirst(this.#store, name)) {
      const record = await this.#read(id)
      if (record !== null) yield record
    }
  }

  async #listAll(limit: number, cursor: string | undefined): Promise<PrefixPage> {
    if (cursor !== undefined && !isPrefixId(cursor)) throw badCursor(cursor)
    const ids: string[] = []
    for await (const key of this.#store.list('prefixes/', cursor === undefined ? undefined : recordKey(cursor))) {
      const id = key.slice('prefixes/'.length, -'.json'.length)
      if (isPrefixId(id) && ids.push(id) > limit) break
    }
    const page = ids.slice(0, limit)
    const data = await this.#readAll(page)
    return { data, next: ids.length > limit ? (page.at(-1) ?? null) : null }
  }

  async #listName(name: string, limit: number, cursor: string | undefined): Promise<PrefixPage> {
    if (cursor !== undefined && !/^[1-9][0-9]{0,7}$/.test(cursor)) throw badCursor(cursor)
    const data: PrefixRecord[] = []
    const before = cursor === undefined ? Infinity : Number(cursor)
    for await (const { id } of newestFirst(this.#store, name, before)) {
      const record = await this.#read(id)
      if (record === null) continue
      if (data.length === limit) return { data, next: String(data.at(-1)?.version) }
      data.push(record)
    }
    return { data, next: null }
  }

  async #readAll(ids: readonly string[]): Promise<PrefixRecord[]> {
    const records: (PrefixRecord | null)[] = []
    for (let i = 0; i < ids.length; i += readsMax) {
      records.push(...(await Promise.all(ids.slice(i, i + readsMax).map((id) => this.#read(id)))))
    }
    return records.filter((record) => record !== null) // null: deleted since it was listed.
  }

  async #read(id: string): Promise<PrefixRecord | null> {
    if (!isPrefixId(id)) return null
    const bytes = await this.#store.get(recordKey(id))
    if (bytes === null) return null
    try {
      const written = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as PrefixRecord
      // Older records do not say what was held out, and know no other interface.
      const { validation = null, fineTuning = null } = written as Partial<PrefixRecord>
      const record = { ...written, validation, fineTuning }
      if (record.id === id) return record
      throw new Error(`it names ${record.id}`)
    } catch (cause) {
      const message = `the record of the prefix ${id} is damaged: ${(cause as Error).message}`
      throw new ServiceError('prefix_invalid', message, { prefix: id }, { cause })
    }
  }

  async #write(record: PrefixRecord): Promise<void> {
    const bytes = new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`)
    await this.#store.put(recordKey(record.id), bytes).finally(() => this.#ready.clear())
  }

  /**
   * Removes the artifact unless another prefix uses it. One that is published meanwhile either marked its use before the
   * second look, and gets the artifact back, or marks it after, and then finds the artifact missing and writes it.
   */
  async #release(sha256: string, id: string): Promise<void> {
    await this.#store.delete(useKey(sha256, id))
    if (await this.#isUsed(sha256)) return
    const bytes = await this.#store.get(artifactKey(sha256))
    if (bytes === null) return
    await this.#store.delete(artifactKey(sha256))
    if (await this.#isUsed(sha256)) await this.#store.putIfAbsent(artifactKey(sha256), bytes)
  }

  async #isUsed(sha256: string): Promise<boolean> {
    for await (const _ of this.#store.list(`uses/${sha256}/`)) return true
    return false
  }

  async #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id)
    const turn = (async () => {
      await before?.catch(() => {}) // Whoever asked for it hears of its failure.
      return work()
    })()
    this.#turns.set(id, turn)
    try {
      return await turn
    } finally {
      if (this.#turns.get(id) === turn) this.#turns.delete(id)
    }
  }
}

/** Field by field: the caller's object may carry more. */
function pickNew(input: NewPrefix): Required<NewPrefix> {
  const { name, jobId, model, tokenizerSha256, template, prefixLength, training, dataset } = input
  const { validation = null, fineTuning = null } = input
  return { name, jobId, model, tokenizerSha256, template, prefixLength, training, dataset, validation, fineTuning }
}

function notReady({ id, status, name, version }: PrefixRecord): ServiceError {
  const called = name === null ? id : `${name}@${version} (${id})`
  return new ServiceError('prefix_not_ready', `the prefix ${called} is ${status}, not ready`, { prefix: id, status })
}

function badCursor(cursor: string): ServiceError {
  const message = `the cursor ${JSON.stringify(cursor.slice(0, 100))} is not the next of a page before`
  return new ServiceError('invalid_request', message)
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function recordKey(id: string): string {
  return `prefixes/${id}.json`
}

function artifactKey(sha256: string): string {
  return `artifacts/${sha256}.safetensors`
}

function useKey(sha256: string, id: string): string {
  return `uses/${sha256}/${id}`
}

// Files of examples as they were uploaded, with their names: each is a dataset, and keeps its own bytes besides.
import { ServiceError } from '../errors/errors.ts'
import type { ObjectStore } from '../store/store.ts'
import { type Datasets, parseJsonLines } from './datasets.ts'
import { newId } from './ids.ts'
import { readTrainingLine } from './training-line.ts'

export interface TrainingFile {
  /** `file-` and 24 characters of [0-9a-z]: in byte order of their ids the newest files come first. */
  readonly id: string
  readonly filename: string
  readonly bytes: number
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly datasetId: string
}

export interface TrainingFileQuery {
  readonly limit: number
  /** Id of the last file of the page before; it need not be there any more. */
  readonly after?: string
  readonly order: 'asc' | 'desc'
}

const idPattern = /^file-[0-9a-z]{24}$/

/** Keys: `files/records/ID.json`, `files/contents/ID.jsonl`. A dataset outlives its files: trainings name it. */
export class TrainingFiles {
  readonly #store: ObjectStore
  readonly #datasets: Pick<Datasets, 'put'>

  constructor(store: ObjectStore, datasets: Pick<Datasets, 'put'>) {
    this.#store = store
    this.#datasets = datasets
  }

  /** Throws `examples_invalid`, listing every bad line by its number; then nothing is stored. */
  async put(filename: string, content: Uint8Array): Promise<TrainingFile> {
    const dataset = await this.#datasets.put(parseJsonLines(content, undefined, readTrainingLine))
    const id = `file-${newId('file').slice('file_'.length)}`
    const createdAt = new Date().toISOString()
    const file: TrainingFile = { id, filename, bytes: content.length, createdAt, datasetId: dataset.id }
    // The record last: a file that is listed has its content.
    await this.#store.put(contentKey(id), content)
    await this.#store.put(recordKey(id), new TextEncoder().encode(`${JSON.stringify(file, null, 2)}\n`))
    return file
  }

  /** Throws `dataset_not_found`. */
  async get(id: string): Promise<TrainingFile> {
    const file = await this.#read(id)
    if (file === null) throw notFound(id)
    return file
  }

  /** The bytes as they came. Throws `dataset_not_found`. */
  async content(id: string): Promise<Uint8Array> {
    const { id: known } = await this.get(id)
    const bytes = await this.#store.get(contentKey(known))
    if (bytes === null) throw notFound(id)
    return bytes
  }

  async list({ limit, after, order }: TrainingFileQuery): Promise<{ data: TrainingFile[]; hasMore: boolean }> {
    const ids: string[] = []
    for await (const key of this.#store.list('files/records/')) {
      const id = key.slice('files/records/'.length, -'.json'.length)
      if (idPattern.test(id)) ids.push(id)
    }
    if (order === 'asc') ids.reverse()
    const left = after === undefined ? ids : ids.filter((id) => (order === 'desc' ? id > after : id < after))
    const data = await Promise.all(left.slice(0, limit).map((id) => this.#read(id)))
    // null: deleted since it was listed.
    return { data: data.filter((file) => file !== null), hasMore: left.length > limit }
  }

  /** Throws `dataset_not_found`. */
  async delete(id: string): Promise<void> {
    const { id: known } = await this.get(id)
    await this.#store.delete(recordKey(known))
    await this.#store.delete(contentKey(known))
  }

  async #read(id: string): Promise<TrainingFile | null> {
    const bytes = idPattern.test(id) ? await this.#store.get(recordKey(id)) : null
    return bytes && (JSON.parse(new TextDecoder().decode(bytes)) as TrainingFile)
  }
}

function notFound(id: string): ServiceError {
  const asked = id.slice(0, 100)
  return new ServiceError('dataset_not_found', `there is no file ${JSON.stringify(asked)}`, { file: asked })
}

function recordKey(id: string): string {
  return `files/records/${id}.json`
}

function contentKey(id: string): string {
  return `files/contents/${id}.jsonl`
}

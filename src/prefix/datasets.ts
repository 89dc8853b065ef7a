// Examples to train on: read line by line, checked one by one, and kept under the hash of their content.
import { createHash } from 'node:crypto'
import { ServiceError } from '../errors/errors.ts'
import type { ObjectStore } from '../store/store.ts'
import type { Example } from './example.ts'

export const examplesMax = 100_000
/** Of an input, and of an output; in UTF-16 code units, as JSON counts them. */
export const exampleCharactersMax = 16_384
export const datasetBytesMax = 64 * 1024 * 1024
/** So many bad examples are listed; all are counted. */
export const listedMax = 100

export interface ExampleLimits {
  readonly examplesMax: number
  readonly exampleCharactersMax: number
  readonly datasetBytesMax: number
}

export interface StoredDataset {
  /** `ds_` and the first 32 digits of the sha256. */
  readonly id: string
  readonly sha256: string
  /** How many. */
  readonly examples: number
}

interface BadExample {
  /** Of the line, from 1, or of the example in its list, from 0. */
  readonly at: number
  readonly reason: string
}

type Unit = 'line' | 'index'

/** An example of what a line or a list holds, or the reason why it is none. */
export type ExampleReader = (value: unknown, limits: ExampleLimits) => Example | string

const defaultLimits: ExampleLimits = { examplesMax, exampleCharactersMax, datasetBytesMax }
const loneSurrogate = /\p{Surrogate}/u
const NEWLINE = 0x0a

/** Lines that hold nothing are passed over. Throws `examples_invalid`, listing every bad line by its number. */
export function parseJsonLines(
  bytes: Uint8Array,
  limits: ExampleLimits = defaultLimits,
  read: ExampleReader = checkExample,
): Example[] {
  checkBytes(bytes.length, limits)
  const examples: Example[] = []
  const bad: BadExample[] = []
  let count = 0
  let line = 0
  for (let start = 0; start < bytes.length; ) {
    const found = bytes.indexOf(NEWLINE, start)
    const end = found < 0 ? bytes.length : found
    line++
    const parsed = parseLine(bytes.subarray(start, end), line === 1, limits, read)
    start = end + 1
    if (parsed === null) continue
    count++
    if (count > limits.examplesMax) continue // Counted only, to say how many there are.
    if (typeof parsed === 'string') bad.push({ at: line, reason: parsed })
    else examples.push(parsed)
  }
  checkCount(count, limits)
  if (bad.length > 0) throw badExamples(bad, count, 'line')
  return examples
}

/** The same for a list in a request. Throws `examples_invalid`, listing every bad example by its index. */
export function checkExamples(list: readonly unknown[], limits: ExampleLimits = defaultLimits): Example[] {
  checkCount(list.length, limits)
  const examples: Example[] = []
  const bad: BadExample[] = []
  for (const [at, value] of list.entries()) {
    const checked = checkExample(value, limits)
    if (typeof checked === 'string') bad.push({ at, reason: checked })
    else examples.push(checked)
  }
  if (bad.length > 0) throw badExamples(bad, list.length, 'index')
  return examples
}

/** Datasets in an object store. Equal examples in equal order are one dataset. */
export class Datasets {
  readonly #store: ObjectStore

  constructor(store: ObjectStore) {
    this.#store = store
  }

  async put(examples: readonly Example[]): Promise<StoredDataset> {
    const lines = examples.map(({ input, output }) => `${JSON.stringify({ input, output })}\n`)
    const bytes = new TextEncoder().encode(lines.join(''))
    checkCount(examples.length, defaultLimits)
    checkBytes(bytes.length, defaultLimits)
    const sha256 = hash(bytes)
    const id = `ds_${sha256.slice(0, 32)}`
    await this.#store.putIfAbsent(keyOf(id), bytes)
    return { id, sha256, examples: examples.length }
  }

  /** Throws `dataset_not_found`. */
  async get(id: string): Promise<Example[]> {
    const bytes = /^ds_[0-9a-f]{32}$/.test(id) ? await this.#store.get(keyOf(id)) : null
    if (bytes === null) {
      const asked = id.slice(0, 100)
      throw new ServiceError('dataset_not_found', `there is no dataset ${JSON.stringify(asked)}`, { dataset: asked })
    }
    const found = hash(bytes)
    if (!found.startsWith(id.slice('ds_'.length))) {
      throw new ServiceError('examples_invalid', `the dataset ${id} is damaged: its sha256 is ${found}`, {
        dataset: id,
      })
    }
    return parseJsonLines(bytes)
  }
}

/** The reason where the line is bad, null where it is blank. */
function parseLine(
  bytes: Uint8Array,
  isFirst: boolean,
  limits: ExampleLimits,
  read: ExampleReader,
): Example | string | null {
  // A character takes at most 6 bytes in JSON; the rest is field names and white space.
  const lineBytesMax = 12 * limits.exampleCharactersMax + 1024
  if (bytes.length > lineBytesMax) return `${bytes.length} bytes long, at most ${lineBytesMax} are taken`
  let text: string
  try {
    // Only the first line may begin with a byte order mark.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: !isFirst }).decode(bytes)
  } catch {
    return 'not valid UTF-8'
  }
  if (text.trim() === '') return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return `not JSON: ${(error as Error).message.slice(0, 200)}`
  }
  return read(value, limits)
}

/** The reason where it is bad. */
export function checkExample(value: unknown, limits: ExampleLimits): Example | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return `must be an object with input and output, not ${nameOf(value)}`
  }
  const unknown = Object.keys(value).find((name) => name !== 'input' && name !== 'output')
  if (unknown !== undefined) return `unknown field ${JSON.stringify(unknown.slice(0, 100))}`
  const fields = value as Record<string, unknown>
  for (const name of ['input', 'output']) {
    if (!Object.hasOwn(fields, name)) return `${name} is missing`
    const reason = checkText(name, fields[name], limits)
    if (reason !== null) return reason
  }
  return { input: fields['input'] as string, output: fields['output'] as string }
}

function checkText(name: string, text: unknown, { exampleCharactersMax }: ExampleLimits): string | null {
  if (typeof text !== 'string') return `${name} must be text, not ${nameOf(text)}`
  if (text.trim() === '') return `${name} is empty`
  if (text.length > exampleCharactersMax) {
    return `${name} has ${text.length} characters, at most ${exampleCharactersMax} are taken`
  }
  return loneSurrogate.test(text) ? `${name} holds half of a surrogate pair` : null
}

function checkBytes(bytes: number, { datasetBytesMax }: ExampleLimits): void {
  if (bytes <= datasetBytesMax) return
  const message = `the examples take ${bytes} bytes, at most ${datasetBytesMax} are taken`
  throw new ServiceError('examples_invalid', message, { bytes, bytesMax: datasetBytesMax })
}

function checkCount(count: number, { examplesMax }: ExampleLimits): void {
  if (count === 0) throw new ServiceError('examples_invalid', 'there are no examples; at least one is needed')
  if (count <= examplesMax) return
  const message = `there are ${count} examples, at most ${examplesMax} are taken`
  throw new ServiceError('examples_invalid', message, { examples: count, examplesMax })
}

function badExamples(bad: readonly BadExample[], count: number, unit: Unit): ServiceError {
  const errors = bad.slice(0, listedMax).map(({ at, reason }) => ({ [unit]: at, reason }))
  const first = bad[0] as BadExample
  const message = `${bad.length} of ${count} examples are not valid; the first, ${unit} ${first.at}: ${first.reason}`
  return new ServiceError('examples_invalid', message, { errors, total: bad.length })
}

function nameOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : typeof value
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function keyOf(id: string): string {
  return `datasets/${id}.jsonl`
}

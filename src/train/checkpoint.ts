// Everything a training needs to go on, bit for bit, as one safetensors file.
import { ServiceError } from '../errors/errors.ts'
import { readSafetensors, toFloat32, writeSafetensors, type TensorToWrite } from '../tensor/safetensors.ts'
import type { Choice } from './options.ts'
import type { Parameters } from './parameters.ts'

export interface Checkpoint {
  /** Steps done: the data cursor too, since batches follow from seed and step. */
  readonly step: number
  readonly parameters: Parameters
  /** AdamW's moments. */
  readonly first: Parameters
  readonly second: Parameters
  readonly best: BestPrefix | null
  /** Evaluations since the best one. */
  readonly stale: number
  readonly validationLoss: number | null
  /** Where held-out loss stopped falling and training ended early. */
  readonly isStopped: boolean
  /** How the options were found, where not all were given. */
  readonly choice: Choice | null
}

export interface BestPrefix {
  readonly step: number
  readonly validationLoss: number
  /** [layers, heads, P, headDim] */
  readonly keys: Float32Array
  readonly values: Float32Array
}

/** What a checkpoint belongs to; one that belongs to anything else is refused on decoding. */
export interface Task {
  /** Over data, options, model and tokenizer. */
  readonly sha256: string
  /** Of the code: another version may train another prefix from the same state. */
  readonly version: string
}

const format = 'preamble.checkpoint.3'

/** `form` is the runtime's, in which its steps were computed. */
export function encodeCheckpoint(checkpoint: Checkpoint, task: Task, form: string): Uint8Array {
  const { step, best, stale, validationLoss, isStopped, choice } = checkpoint
  const tensors: TensorToWrite[] = []
  const add = (name: string, data: Float32Array): void => {
    tensors.push({ name, dtype: 'F32', shape: [data.length], data })
  }
  for (const group of ['parameters', 'first', 'second'] as const) {
    for (const [name, data] of checkpoint[group]) add(`${group}.${name}`, data)
  }
  if (best !== null) {
    add('best.keys', best.keys)
    add('best.values', best.values)
  }
  const state = {
    step,
    stale,
    validationLoss,
    isStopped,
    choice,
    best: best && { step: best.step, validationLoss: best.validationLoss },
  }
  return writeSafetensors(tensors, {
    format,
    task: task.sha256,
    version: task.version,
    form,
    state: JSON.stringify(state),
  })
}

/** The options that a checkpoint's training chose, without looking at whose checkpoint it is; null: all were given. */
export function choiceOf(bytes: Uint8Array): Choice | null {
  const { state } = readFile(bytes).metadata
  return state === undefined ? null : ((JSON.parse(state) as { choice?: Choice | null }).choice ?? null)
}

/** Throws `prefix_invalid` where the bytes are no checkpoint of `task`, or lack one of `names`. */
export function decodeCheckpoint(bytes: Uint8Array, task: Task, names: readonly string[]): Checkpoint {
  const { metadata, tensors } = readFile(bytes)
  if (metadata['format'] !== format) throw invalid(`its format is ${metadata['format']}, not ${format}`)
  if (metadata['version'] !== task.version) {
    throw invalid(`version ${metadata['version']} of the code wrote it, this is version ${task.version}`)
  }
  if (metadata['task'] !== task.sha256) {
    throw invalid(`it belongs to ${metadata['task']}, this training is ${task.sha256}`)
  }
  const take = (name: string): Float32Array => {
    const tensor = tensors.get(name)
    if (tensor === undefined) throw invalid(`it has no tensor ${name}`)
    return toFloat32('F32', tensor.bytes)
  }
  const group = (path: string): Parameters => new Map(names.map((name) => [name, take(`${path}.${name}`)]))
  const state = JSON.parse(metadata['state'] as string) as Omit<Checkpoint, 'best'> & {
    best: { step: number; validationLoss: number } | null
  }
  const best = state.best && { ...state.best, keys: take('best.keys'), values: take('best.values') }
  return { ...state, best, parameters: group('parameters'), first: group('first'), second: group('second') }
}

/** The form that the steps of a checkpoint were computed in. Throws `prefix_invalid` as `decodeCheckpoint` does. */
export function formOfCheckpoint(bytes: Uint8Array): string {
  return readFile(bytes).metadata['form'] ?? 'float32'
}

function readFile(bytes: Uint8Array): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes)
  } catch (error) {
    throw invalid((error as Error).message, error)
  }
}

function invalid(reason: string, cause?: unknown): ServiceError {
  return new ServiceError('prefix_invalid', `the checkpoint cannot be used: ${reason}`, {}, { cause })
}

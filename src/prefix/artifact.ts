// A prefix as a safetensors file: two tensors, and in the metadata everything that it must name.
import { ServiceError } from '../errors/errors.ts'
import {
  readSafetensors,
  SafetensorsError,
  type StoredTensor,
  toFloat32,
  writeSafetensors,
} from '../tensor/safetensors.ts'
import type { Attachment, Prefix, PrefixHeader } from './prefix.ts'
import { inputMark } from './template.ts'

export const artifactFormat = 'preamble.prefix'
export const artifactVersion = '1'
export const prefixLengthMax = 1024
/** The training record is in the header. */
export const artifactHeaderBytesMax = 4 * 1024 * 1024
/** GPT-2 XL with the longest prefix takes 600 MiB. */
export const artifactBytesMax = 1024 * 1024 * 1024
export const templateCharactersMax = 4096

const extentMax = 65_536
const attachments: readonly Attachment[] = ['decoder_self', 'encoder_self', 'cross']
const fieldNames = [
  'format',
  'version',
  'attachment',
  'textPositionStart',
  'prefixLength',
  'layers',
  'heads',
  'headDim',
  'modelSha256',
  'tokenizerSha256',
  'template',
  'training',
] as const

type Fields = Readonly<Record<string, string>>

/** The frozen model that a prefix is to be played on. */
export interface PlayingModel {
  readonly name: string
  readonly sha256: string
  readonly tokenizerSha256: string
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  readonly positionsMax: number
}

/** Equal prefixes give equal bytes. Throws `prefix_invalid` for what `decodePrefix` would not take back. */
export function encodePrefix({ header, keys, values }: Prefix): Uint8Array {
  const shape = [header.layers, header.heads, header.prefixLength, header.headDim]
  checkNumbers('keys', keys, shape)
  checkNumbers('values', values, shape)
  const metadata = headerFields(header)
  parseHeaderFields(metadata)
  const { attachment } = header
  return writeSafetensors(
    [
      { name: `${attachment}.keys`, dtype: 'F32', shape, data: keys },
      { name: `${attachment}.values`, dtype: 'F32', shape, data: values },
    ],
    metadata,
  )
}

/** Throws `prefix_invalid`, naming the field and both sides. */
export function decodePrefix(bytes: Uint8Array): Prefix {
  if (bytes.length > artifactBytesMax) {
    throw invalid('file', `has ${bytes.length} bytes, at most ${artifactBytesMax} are taken`)
  }
  const { metadata, tensors } = readFile(bytes)
  const header = parseHeaderFields(metadata)
  const names = [`${header.attachment}.keys`, `${header.attachment}.values`] as const
  for (const name of tensors.keys()) {
    if (!(names as readonly string[]).includes(name)) {
      throw invalid(name, `is a tensor that the format does not know; it has ${names.join(' and ')}`)
    }
  }
  const shape = [header.layers, header.heads, header.prefixLength, header.headDim]
  const [keys, values] = names.map((name) => readTensor(name, tensors.get(name), shape)) as [Float32Array, Float32Array]
  return { header, keys, values }
}

/** Throws `prefix_model_mismatch`, naming both sides, unless `model` plays the prefix as it was trained. */
export function checkPrefixFits(header: PrefixHeader, model: PlayingModel): void {
  const compare = (field: string, prefixSide: unknown, modelSide: unknown, message: string): void => {
    if (prefixSide === modelSide) return
    const details = { field, prefix: prefixSide, model: modelSide, modelName: model.name }
    throw new ServiceError('prefix_model_mismatch', message, details)
  }
  for (const field of ['layers', 'heads', 'headDim'] as const) {
    const message = `the prefix has ${field} ${header[field]}, the model ${model.name} has ${model[field]}`
    compare(field, header[field], model[field], message)
  }
  const trained = `the prefix was trained for the model with sha256 ${header.modelSha256}`
  compare(
    'modelSha256',
    header.modelSha256,
    model.sha256,
    `${trained}, this service runs ${model.name}, ${model.sha256}`,
  )
  const tokenizers = `the prefix was trained with the tokenizer ${header.tokenizerSha256}`
  const { tokenizerSha256 } = model
  compare(
    'tokenizerSha256',
    header.tokenizerSha256,
    tokenizerSha256,
    `${tokenizers}, ${model.name} has ${tokenizerSha256}`,
  )
  const { attachment, textPositionStart, prefixLength } = header
  const attached = `the prefix is attached to ${attachment}, the model ${model.name} has decoder_self alone`
  compare('attachment', attachment, 'decoder_self', attached)
  const starts = `text starts at position ${textPositionStart} in the prefix's training, at ${prefixLength} in ${model.name}`
  compare('textPositionStart', textPositionStart, prefixLength, starts)
  if (prefixLength >= model.positionsMax) {
    const message = `the prefix takes ${prefixLength} positions, the model ${model.name} has ${model.positionsMax} in all`
    const details = { field: 'prefixLength', prefix: prefixLength, model: model.positionsMax, modelName: model.name }
    throw new ServiceError('prefix_model_mismatch', message, details)
  }
}

function headerFields(header: PrefixHeader): Fields {
  return {
    format: artifactFormat,
    version: artifactVersion,
    attachment: header.attachment,
    textPositionStart: String(header.textPositionStart),
    prefixLength: String(header.prefixLength),
    layers: String(header.layers),
    heads: String(header.heads),
    headDim: String(header.headDim),
    modelSha256: header.modelSha256,
    tokenizerSha256: header.tokenizerSha256,
    template: header.template,
    training: JSON.stringify(header.training),
  }
}

function parseHeaderFields(fields: Fields): PrefixHeader {
  for (const name of Object.keys(fields)) {
    if (!(fieldNames as readonly string[]).includes(name))
      throw invalid(name, 'is a field that the format does not know')
  }
  parseChoice(fields, 'format', [artifactFormat])
  parseChoice(fields, 'version', [artifactVersion])
  const prefixLength = parseNumber(fields, 'prefixLength', 1, prefixLengthMax)
  const textPositionStart = parseNumber(fields, 'textPositionStart', 0, prefixLengthMax)
  if (textPositionStart !== 0 && textPositionStart !== prefixLength) {
    throw invalid('textPositionStart', `is ${textPositionStart}, it must be 0 or prefixLength, ${prefixLength}`)
  }
  return {
    attachment: parseChoice(fields, 'attachment', attachments),
    textPositionStart,
    prefixLength,
    layers: parseNumber(fields, 'layers', 1, extentMax),
    heads: parseNumber(fields, 'heads', 1, extentMax),
    headDim: parseNumber(fields, 'headDim', 1, extentMax),
    modelSha256: parseSha256(fields, 'modelSha256'),
    tokenizerSha256: parseSha256(fields, 'tokenizerSha256'),
    template: parseTemplate(field(fields, 'template')),
    training: parseTraining(field(fields, 'training')),
  }
}

function readFile(bytes: Uint8Array) {
  try {
    return readSafetensors(bytes, artifactHeaderBytesMax)
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error
    const details = { field: 'file', reason: error.kind }
    const message = `the prefix artifact is not a valid safetensors file: ${error.message}`
    throw new ServiceError('prefix_invalid', message, details, { cause: error })
  }
}

function readTensor(name: string, tensor: StoredTensor | undefined, shape: readonly number[]): Float32Array {
  if (tensor === undefined) throw invalid(name, 'is missing')
  if (tensor.dtype !== 'F32') throw invalid(name, `has dtype ${tensor.dtype}, it must be F32`)
  if (tensor.shape.join() !== shape.join()) {
    throw invalid(name, `has shape [${tensor.shape.join(', ')}], its header says [${shape.join(', ')}]`)
  }
  const data = toFloat32('F32', tensor.bytes)
  checkNumbers(name, data, shape)
  return data
}

function checkNumbers(name: string, data: Float32Array, shape: readonly number[]): void {
  const size = shape.reduce((product, extent) => product * extent, 1)
  if (data.length !== size) {
    throw invalid(name, `has ${data.length} numbers, the header says [${shape.join(', ')}], ${size}`)
  }
  // A plain loop: with a call for each number it would be most of the time that a first use takes.
  let at = 0
  while (at < data.length && Number.isFinite(data[at])) at++
  if (at < data.length) throw invalid(name, `has ${data[at]} at index ${at}, every number must be finite`)
}

function field(fields: Fields, name: string): string {
  const value = fields[name]
  if (value === undefined) throw invalid(name, 'is missing')
  return value
}

function parseChoice<T extends string>(fields: Fields, name: string, allowed: readonly T[]): T {
  const value = field(fields, name)
  const found = allowed.find((choice) => choice === value)
  if (found === undefined) throw invalid(name, `is ${shown(value)}, it must be ${allowed.join(' or ')}`)
  return found
}

function parseNumber(fields: Fields, name: string, min: number, max: number): number {
  const value = field(fields, name)
  const number = Number(value)
  if (!/^(0|[1-9][0-9]{0,8})$/.test(value) || number < min || number > max) {
    throw invalid(name, `is ${shown(value)}, it must be a whole number from ${min} to ${max}`)
  }
  return number
}

function parseSha256(fields: Fields, name: string): string {
  const value = field(fields, name)
  if (!/^[0-9a-f]{64}$/.test(value)) throw invalid(name, `is ${shown(value)}, it must be 64 of 0-9 a-f`)
  return value
}

function parseTemplate(template: string): string {
  if (template.length > templateCharactersMax) {
    throw invalid('template', `has ${template.length} characters, at most ${templateCharactersMax} are taken`)
  }
  if (!template.includes(inputMark)) throw invalid('template', `is ${shown(template)}, it must hold ${inputMark}`)
  return template
}

function parseTraining(text: string): Readonly<Record<string, unknown>> {
  let training: unknown
  try {
    training = JSON.parse(text)
  } catch {
    throw invalid('training', `is ${shown(text)}, it must be JSON`)
  }
  if (typeof training !== 'object' || training === null || Array.isArray(training)) {
    throw invalid('training', `is ${shown(text)}, it must be a JSON object`)
  }
  return training as Record<string, unknown>
}

function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

function invalid(name: string, problem: string): ServiceError {
  return new ServiceError('prefix_invalid', `the prefix artifact: ${name} ${problem}`, { field: name })
}

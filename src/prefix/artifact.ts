// A prefix as a safetensors file: two tensors for each place where it is put in, and in the metadata everything that it must name.
import { ServiceError } from '../errors/errors.ts'
import {
  readSafetensors,
  SafetensorsError,
  type StoredTensor,
  type TensorToWrite,
  toFloat32,
  writeSafetensors,
} from '../tensor/safetensors.ts'
import { type AttachedLayers, type Attachment, placesOf, type Prefix, type PrefixHeader } from './prefix.ts'
import { inputMark } from './template.ts'

const artifactFormat = 'preamble.prefix'
/** Of a prefix at one place. */
const artifactVersion = '1'
/** Of a prefix at several: it says which. */
const artifactVersionOfPlaces = '2'
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
  'places',
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
  /** Where it takes prefixes; absent: in each layer of `decoder_self`. */
  readonly places?: readonly AttachedLayers[]
  /** Where text may start behind a prefix, in positions; absent: at P. */
  readonly textStarts?: readonly ('zero' | 'prefixLength')[]
  /** How an input becomes a prompt where nobody says; absent: the paper's form. */
  readonly template?: string
}

/** Equal prefixes give equal bytes. Throws `prefix_invalid` for what `decodePrefix` would not take back. */
export function encodePrefix({ header, keys, values }: Prefix): Uint8Array {
  const shape = [header.layers, header.heads, header.prefixLength, header.headDim]
  checkNumbers('keys', keys, shape)
  checkNumbers('values', values, shape)
  const metadata = headerFields(header)
  parseHeaderFields(metadata)
  let from = 0
  const tensors = placesOf(header).flatMap(({ attachment, layers }): TensorToWrite[] => {
    const own = shape.with(0, layers)
    const to = from + own.reduce((product, extent) => product * extent, 1)
    const [ownKeys, ownValues] = [keys.subarray(from, to), values.subarray(from, to)]
    from = to
    return [
      { name: `${attachment}.keys`, dtype: 'F32', shape: own, data: ownKeys },
      { name: `${attachment}.values`, dtype: 'F32', shape: own, data: ownValues },
    ]
  })
  return writeSafetensors(tensors, metadata)
}

/** Throws `prefix_invalid`, naming the field and both sides. */
export function decodePrefix(bytes: Uint8Array): Prefix {
  if (bytes.length > artifactBytesMax) {
    throw invalid('file', `has ${bytes.length} bytes, at most ${artifactBytesMax} are taken`)
  }
  const { metadata, tensors } = readFile(bytes)
  const header = parseHeaderFields(metadata)
  const places = placesOf(header)
  const names = places.flatMap(({ attachment }) => [`${attachment}.keys`, `${attachment}.values`])
  for (const name of tensors.keys()) {
    if (!names.includes(name)) {
      throw invalid(name, `is a tensor that the format does not know; it has ${names.join(' and ')}`)
    }
  }
  const { heads, prefixLength, headDim } = header
  const halves = (['keys', 'values'] as const).map((half) =>
    places.map(({ attachment, layers }) => {
      const name = `${attachment}.${half}`
      return readTensor(name, tensors.get(name), [layers, heads, prefixLength, headDim])
    }),
  )
  const [keys, values] = halves.map(joined) as [Float32Array, Float32Array]
  return { header, keys, values }
}

/** One place's layers after the other's. */
function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0] as Float32Array
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** Throws `prefix_model_mismatch`, naming both sides, unless `model` plays the prefix as it was trained. */
export function checkPrefixFits(header: PrefixHeader, model: PlayingModel): void {
  const compare = (field: string, prefixSide: unknown, modelSide: unknown, message: string): void => {
    if (prefixSide === modelSide) return
    const details = { field, prefix: prefixSide, model: modelSide, modelName: model.name }
    throw new ServiceError('prefix_model_mismatch', message, details)
  }
  const { prefixLength, textPositionStart } = header
  const places = model.places ?? [{ attachment: 'decoder_self', layers: model.layers }]
  const known = places.map(({ attachment }) => attachment).join(', ')
  for (const { attachment, layers } of placesOf(header)) {
    const place = places.find((each) => each.attachment === attachment)
    const attached = `the prefix is attached to ${attachment}, the model ${model.name} has ${places.length === 1 ? `${known} alone` : known}`
    if (place === undefined) {
      compare('attachment', attachment, known, attached)
      continue
    }
    const message = `the prefix has layers ${layers}, the model ${model.name} has ${place.layers}`
    compare('layers', layers, place.layers, places.length === 1 ? message : `${message} at ${attachment}`)
  }
  for (const field of ['heads', 'headDim'] as const) {
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
  const textStarts = (model.textStarts ?? ['prefixLength']).map((each) => (each === 'zero' ? 0 : prefixLength))
  const starts = `text starts at position ${textPositionStart} in the prefix's training, at ${textStarts.join(' or ')} in ${model.name}`
  if (!textStarts.includes(textPositionStart)) compare('textPositionStart', textPositionStart, textStarts[0], starts)
  if (prefixLength >= model.positionsMax) {
    const message = `the prefix takes ${prefixLength} positions, the model ${model.name} has ${model.positionsMax} in all`
    const details = { field: 'prefixLength', prefix: prefixLength, model: model.positionsMax, modelName: model.name }
    throw new ServiceError('prefix_model_mismatch', message, details)
  }
}

function headerFields(header: PrefixHeader): Fields {
  return {
    format: artifactFormat,
    version: header.places === undefined ? artifactVersion : artifactVersionOfPlaces,
    attachment: header.attachment,
    ...(header.places !== undefined && { places: JSON.stringify(header.places) }),
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
  const version = parseChoice(fields, 'version', [artifactVersion, artifactVersionOfPlaces])
  const prefixLength = parseNumber(fields, 'prefixLength', 1, prefixLengthMax)
  const textPositionStart = parseNumber(fields, 'textPositionStart', 0, prefixLengthMax)
  if (textPositionStart !== 0 && textPositionStart !== prefixLength) {
    throw invalid('textPositionStart', `is ${textPositionStart}, it must be 0 or prefixLength, ${prefixLength}`)
  }
  const attachment = parseChoice(fields, 'attachment', attachments)
  const layers = parseNumber(fields, 'layers', 1, extentMax)
  if (version === artifactVersion && fields['places'] !== undefined)
    throw invalid('places', `is a field of version ${artifactVersionOfPlaces}, this is ${artifactVersion}`)
  return {
    attachment,
    ...(version === artifactVersionOfPlaces && { places: parsePlaces(field(fields, 'places'), attachment, layers) }),
    textPositionStart,
    prefixLength,
    layers,
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

/** At least two, each once, `attachment` first, with `layers` in all. */
function parsePlaces(text: string, attachment: Attachment, layers: number): readonly AttachedLayers[] {
  let places: unknown
  try {
    places = JSON.parse(text)
  } catch {
    throw invalid('places', `is ${shown(text)}, it must be JSON`)
  }
  const isPlace = (each: unknown): each is AttachedLayers => {
    const { attachment: at, layers: count, ...others } = (each ?? {}) as Record<string, unknown>
    const isKnown = attachments.some((known) => known === at)
    return isKnown && Number.isInteger(count) && (count as number) >= 1 && Object.keys(others).length === 0
  }
  const list = Array.isArray(places) && places.length <= attachments.length && places.every(isPlace) ? places : []
  const isWhole = list.reduce((sum, place) => sum + place.layers, 0) === layers && list[0]?.attachment === attachment
  if (list.length < 2 || new Set(list.map((place) => place.attachment)).size < list.length || !isWhole) {
    const wanted = `two or three of ${attachments.join(', ')}, ${attachment} first, with ${layers} layers in all`
    throw invalid('places', `is ${shown(text)}, it must be ${wanted}`)
  }
  return list.map((place) => ({ attachment: place.attachment, layers: place.layers }))
}

function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

function invalid(name: string, problem: string): ServiceError {
  return new ServiceError('prefix_invalid', `the prefix artifact: ${name} ${problem}`, { field: name })
}

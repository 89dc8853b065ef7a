// Reads and writes safetensors files: a length (8 bytes, little-endian), a JSON header of that length, then tensor bytes.
import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { widenBfloat16, widenFloat16 } from './half.ts'
import { parseHeaderText, quote } from './header-text.ts'
import { SafetensorsError } from './safetensors-error.ts'
import { sizeOf } from './tensor.ts'

export { SafetensorsError, type SafetensorsErrorKind } from './safetensors-error.ts'

/** As in the format's own implementation: nobody is made to parse more than this. */
const headerBytesLimit = 100_000_000
const tensorsMax = 100_000
const nameCharactersMax = 512
const dimensionsMax = 16

const LENGTH_BYTES = 8
const METADATA_KEY = '__metadata__'
const loneSurrogate = /\p{Surrogate}/u

/** Bytes of one element. */
const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
} as const

export type SafetensorsDType = keyof typeof elementBytes
/** What `toFloat32` takes. */
export type FloatDType = 'F64' | 'F32' | 'F16' | 'BF16'

export interface TensorEntry {
  readonly dtype: SafetensorsDType
  readonly shape: readonly number[]
  /** Of the first byte, from the beginning of the file. */
  readonly offset: number
  readonly bytes: number
}

export interface Header {
  readonly metadata: Readonly<Record<string, string>>
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorEntry>
}

export interface StoredTensor {
  readonly dtype: SafetensorsDType
  readonly shape: readonly number[]
  /** A view into the bytes that were read; it may begin at any address. */
  readonly bytes: Uint8Array
}

export interface Safetensors {
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, StoredTensor>
}

/** A tensor to be written, its bytes perhaps not made yet. */
export interface TensorPlan {
  readonly name: string
  readonly dtype: 'F32' | 'U8' | 'I8'
  readonly shape: readonly number[]
}

export interface TensorToWrite extends TensorPlan {
  readonly dtype: 'F32'
  readonly data: Float32Array
}

/** `bytes` are the first bytes of a file of `fileBytes`, at least to the end of the header. */
export function parseHeader(bytes: Uint8Array, fileBytes: number, headerBytesMax = headerBytesLimit): Header {
  const dataStart = LENGTH_BYTES + readHeaderLength(bytes, fileBytes, headerBytesMax)
  if (bytes.length < dataStart) {
    throw new SafetensorsError(
      'truncated',
      `the header ends at byte ${dataStart}, only ${bytes.length} bytes are there`,
    )
  }
  const fields = parseHeaderText(bytes.subarray(LENGTH_BYTES, dataStart), tensorsMax)
  const tensors = new Map<string, TensorEntry>()
  for (const [name, entry] of Object.entries(fields)) {
    if (name !== METADATA_KEY) tensors.set(checkName(name), parseEntry(name, entry, dataStart))
  }
  checkCover(tensors, dataStart, fileBytes)
  return { metadata: parseMetadata(fields[METADATA_KEY]), tensors }
}

/** Reads the header of a file and nothing else of it. */
export async function readHeader(path: string, headerBytesMax = headerBytesLimit): Promise<Header> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const first = new Uint8Array(LENGTH_BYTES)
    const { bytesRead } = await file.read(first, 0, LENGTH_BYTES, 0)
    const headerLength = readHeaderLength(first.subarray(0, bytesRead), size, headerBytesMax)
    const bytes = new Uint8Array(LENGTH_BYTES + headerLength)
    let filled = 0
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled)
      if (bytesRead === 0) break // The file became shorter since `stat`.
      filled += bytesRead
    }
    return parseHeader(bytes.subarray(0, filled), size, headerBytesMax)
  } finally {
    await file.close()
  }
}

export function readSafetensors(bytes: Uint8Array, headerBytesMax = headerBytesLimit): Safetensors {
  const header = parseHeader(bytes, bytes.length, headerBytesMax)
  const tensors = new Map<string, StoredTensor>()
  for (const [name, entry] of header.tensors) {
    const view = bytes.subarray(entry.offset, entry.offset + entry.bytes)
    tensors.set(name, { dtype: entry.dtype, shape: entry.shape, bytes: view })
  }
  return { metadata: header.metadata, tensors }
}

/** Equal content gives equal bytes: names and metadata keys are sorted, the header is padded to 8 bytes with spaces. */
export function writeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const head = encodeHeader(tensors, metadata)
  const sizes = tensors.map(({ data }) => data.byteLength)
  const bytes = new Uint8Array(head.length + sizes.reduce((a, b) => a + b, 0))
  bytes.set(head)
  let offset = head.length
  for (const { name, shape, data } of inOrder(tensors)) {
    assert.equal(
      data.length,
      sizeOf(shape),
      `tensor ${quote(name)}: its data must fill the shape [${shape.join(', ')}]`,
    )
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset)
    offset += data.byteLength
  }
  return bytes
}

/** The beginning of a file. The bytes of the tensors follow it without a gap, by order of their names. */
export function encodeHeader(
  tensors: readonly TensorPlan[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const sorted = inOrder(tensors)
  const fields: string[] = []
  if (Object.keys(metadata).length > 0) fields.push(`${JSON.stringify(METADATA_KEY)}:${sortedJson(metadata)}`)
  let end = 0
  for (const [i, { name, dtype, shape }] of sorted.entries()) {
    assert.ok(name !== METADATA_KEY && name !== sorted[i - 1]?.name, `the tensor name ${quote(name)} is taken`)
    const begin = end
    end += sizeOf(shape) * elementBytes[dtype]
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`)
  }
  const text = new TextEncoder().encode(`{${fields.join(',')}}`)
  const headerLength = Math.ceil(text.length / 8) * 8
  const bytes = new Uint8Array(LENGTH_BYTES + headerLength).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true)
  bytes.set(text, LENGTH_BYTES)
  return bytes
}

/** As they follow each other in a file. */
export function inOrder<T extends { readonly name: string }>(tensors: readonly T[]): T[] {
  return [...tensors].sort((a, b) => compare(a.name, b.name))
}

/**
 * A fresh array; `bytes` may begin at any address. Like every machine this runs on, the format is little-endian.
 * F64 is rounded to the nearest float32, infinite beyond its range; the others are held exactly.
 */
export function toFloat32(dtype: FloatDType, bytes: Uint8Array): Float32Array {
  assert.equal(
    bytes.length % elementBytes[dtype],
    0,
    `${bytes.length} bytes are not a whole number of ${dtype} elements`,
  )
  const { buffer } = new Uint8Array(bytes) // The copy begins at an address that every element type accepts.
  if (dtype === 'F32') return new Float32Array(buffer)
  if (dtype === 'F64') return Float32Array.from(new Float64Array(buffer))
  const halves = new Uint16Array(buffer)
  return dtype === 'F16' ? widenFloat16(halves) : widenBfloat16(halves)
}

function readHeaderLength(bytes: Uint8Array, fileBytes: number, headerBytesMax: number): number {
  if (bytes.length < LENGTH_BYTES || fileBytes < LENGTH_BYTES) {
    const there = Math.min(bytes.length, fileBytes)
    throw new SafetensorsError(
      'truncated',
      `a file begins with ${LENGTH_BYTES} bytes of length, only ${there} are there`,
    )
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)
  if (length > BigInt(headerBytesMax)) {
    const message = `the file claims a header of ${length} bytes, at most ${headerBytesMax} are read`
    throw new SafetensorsError('header_too_long', message)
  }
  if (length > BigInt(fileBytes - LENGTH_BYTES)) {
    const message = `the file claims a header of ${length} bytes, only ${fileBytes - LENGTH_BYTES} follow`
    throw new SafetensorsError('truncated', message)
  }
  return Number(length)
}

function checkName(name: string): string {
  if (name.length === 0 || name.length > nameCharactersMax || loneSurrogate.test(name)) {
    const message = `tensor ${quote(name)}: a name has 1 to ${nameCharactersMax} characters of valid text, not ${name.length}`
    throw new SafetensorsError('name_invalid', message)
  }
  return name
}

function parseEntry(name: string, entry: unknown, dataStart: number): TensorEntry {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
    throw new SafetensorsError('entry_invalid', `tensor ${quote(name)} must be described by an object`)
  }
  const { dtype, shape, data_offsets: offsets, ...rest } = entry as Record<string, unknown>
  const unknown = Object.keys(rest)[0]
  if (unknown !== undefined) {
    throw new SafetensorsError('entry_invalid', `tensor ${quote(name)} has the unknown field ${quote(unknown)}`)
  }
  if (typeof dtype !== 'string' || !Object.hasOwn(elementBytes, dtype)) {
    const known = Object.keys(elementBytes).join(', ')
    const message = `tensor ${quote(name)} has dtype ${quote(String(dtype))}; known are ${known}`
    throw new SafetensorsError('dtype_unknown', message)
  }
  const known = dtype as SafetensorsDType
  if (!isNaturals(shape) || shape.length > dimensionsMax) {
    const message = `tensor ${quote(name)}: a shape is a list of at most ${dimensionsMax} whole numbers from 0 up`
    throw new SafetensorsError('shape_invalid', message)
  }
  const [begin, end] = parseOffsets(name, offsets)
  const bytes = byteSize(name, shape, elementBytes[known])
  if (bytes !== end - begin) {
    const message = `tensor ${quote(name)}: ${known} [${shape.join(', ')}] takes ${bytes} bytes, its offsets span ${end - begin}`
    throw new SafetensorsError('size_mismatch', message)
  }
  return { dtype: known, shape, offset: dataStart + begin, bytes }
}

function parseOffsets(name: string, offsets: unknown): [begin: number, end: number] {
  if (!isNaturals(offsets) || offsets.length !== 2) {
    const message = `tensor ${quote(name)}: data_offsets is a list of two whole numbers from 0 up`
    throw new SafetensorsError('offsets_invalid', message)
  }
  const [begin, end] = offsets as [number, number]
  if (begin > end) {
    const message = `tensor ${quote(name)} ends at offset ${end}, before it begins at ${begin}`
    throw new SafetensorsError('offsets_invalid', message)
  }
  return [begin, end]
}

/** Below 2⁵³ at every step, so that the product is exact. */
function byteSize(name: string, shape: readonly number[], bytesEach: number): number {
  let bytes = bytesEach
  for (const extent of shape) {
    bytes *= extent
    if (!Number.isSafeInteger(bytes)) {
      throw new SafetensorsError('shape_invalid', `tensor ${quote(name)}: the shape [${shape.join(', ')}] overflows`)
    }
  }
  return bytes
}

/** The tensors cover the data exactly: no byte twice, none left out, none after the last. */
function checkCover(tensors: ReadonlyMap<string, TensorEntry>, dataStart: number, fileBytes: number): void {
  const byOffset = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes)
  let covered = dataStart
  for (const [name, { offset, bytes }] of byOffset) {
    if (offset !== covered) {
      const message = `tensor ${quote(name)} begins at byte ${offset} of the file, the tensor before it ends at ${covered}`
      throw new SafetensorsError(offset < covered ? 'overlap' : 'hole', message)
    }
    covered = offset + bytes
  }
  if (covered !== fileBytes) {
    const message = `the tensors end at byte ${covered}, the file at ${fileBytes}`
    throw new SafetensorsError(covered < fileBytes ? 'trailing_bytes' : 'truncated', message)
  }
}

function parseMetadata(fields: unknown): Readonly<Record<string, string>> {
  if (fields === undefined) return {}
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
    throw new SafetensorsError('metadata_invalid', `${METADATA_KEY} must be an object of texts`)
  }
  for (const [key, value] of Object.entries(fields)) {
    if (typeof value !== 'string') {
      const message = `${METADATA_KEY}: the value of ${quote(key)} must be text, not ${value === null ? 'null' : typeof value}`
      throw new SafetensorsError('metadata_invalid', message)
    }
  }
  return fields as Record<string, string>
}

function isNaturals(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0 && !Object.is(item, -0))
}

function sortedJson(metadata: Readonly<Record<string, string>>): string {
  const entries = Object.entries(metadata).sort(([a], [b]) => compare(a, b))
  return `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

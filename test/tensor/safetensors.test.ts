// The safetensors reader: what is written comes back, and no malformed file gets past it.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  parseHeader,
  readHeader,
  readSafetensors,
  SafetensorsError,
  type SafetensorsErrorKind,
  type TensorToWrite,
  toFloat32,
  writeSafetensors,
} from '../../src/tensor/safetensors.ts'

/** A file with the header as given, whatever it claims, followed by zeros. */
function file(header: string | Uint8Array, dataBytes = 0, headerLength?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const bytes = new Uint8Array(8 + text.length + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true)
  bytes.set(text, 8)
  return bytes
}

function entry(shape: readonly number[], begin: number, end: number, dtype = 'F32'): string {
  return JSON.stringify({ dtype, shape, data_offsets: [begin, end] })
}

/** The same bytes at an odd address. */
function shifted(bytes: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(bytes.length + 1)
  buffer.set(bytes, 1)
  return buffer.subarray(1)
}

const tensors: readonly TensorToWrite[] = [
  { name: 'values', dtype: 'F32', shape: [2, 1], data: Float32Array.of(-0.5, 3e38) },
  { name: 'keys', dtype: 'F32', shape: [1, 3], data: Float32Array.of(1, 2, 3) },
  { name: 'scalar', dtype: 'F32', shape: [], data: Float32Array.of(7) },
  { name: 'nothing', dtype: 'F32', shape: [0, 5], data: new Float32Array(0) },
]

describe('safetensors, well-formed', () => {
  test('what is written is read back', () => {
    const { metadata, tensors: read } = readSafetensors(writeSafetensors(tensors, { b: 'ü "quoted"\n', a: '' }))
    assert.deepEqual(metadata, { a: '', b: 'ü "quoted"\n' })
    assert.deepEqual([...read.keys()].sort(), ['keys', 'nothing', 'scalar', 'values'])
    for (const { name, shape, data } of tensors) {
      const tensor = read.get(name)
      assert.ok(tensor)
      assert.equal(tensor.dtype, 'F32')
      assert.deepEqual(tensor.shape, shape)
      assert.deepEqual(toFloat32('F32', tensor.bytes), data)
    }
  })

  test('a tiny file has exactly the bytes that the format asks for', () => {
    // 8 bytes of length (80), 78 characters of header and 2 spaces, then 1.0 and -2.0 as little-endian float32.
    const header = '{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    const expected = Buffer.concat([
      Buffer.from([80, 0, 0, 0, 0, 0, 0, 0]),
      Buffer.from(header.padEnd(80)),
      Buffer.from([0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0]),
    ])
    const written = writeSafetensors([{ name: 'x', dtype: 'F32', shape: [2], data: Float32Array.of(1, -2) }], {
      a: 'b',
    })
    assert.deepEqual(Buffer.from(written), expected)
    assert.deepEqual(readSafetensors(expected).tensors.get('x')?.shape, [2])
  })

  test('the bytes depend on the content alone, not on the order it came in', () => {
    const forward = writeSafetensors(tensors, { a: '1', b: '2' })
    assert.deepEqual(writeSafetensors([...tensors].reverse(), { b: '2', a: '1' }), forward)
  })

  test('an empty file of no tensors is allowed', () => {
    assert.equal(readSafetensors(writeSafetensors([])).tensors.size, 0)
  })

  test('names that objects treat specially are ordinary names', () => {
    const names = ['__proto__', 'constructor', '10', '9']
    const odd = names.map((name): TensorToWrite => ({ name, dtype: 'F32', shape: [1], data: Float32Array.of(1) }))
    const read = readSafetensors(writeSafetensors(odd, { hasOwnProperty: 'x' }))
    assert.deepEqual([...read.tensors.keys()].sort(), [...names].sort())
    assert.equal(read.metadata['hasOwnProperty'], 'x')
  })

  test('the header of a file on disk gives offsets from the beginning of the file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
    try {
      const bytes = writeSafetensors(tensors)
      const path = join(folder, 'model.safetensors')
      await writeFile(path, bytes)
      const header = await readHeader(path)
      assert.deepEqual(header, parseHeader(bytes, bytes.length))
      const keys = header.tensors.get('keys')
      assert.ok(keys)
      assert.deepEqual(
        toFloat32('F32', bytes.subarray(keys.offset, keys.offset + keys.bytes)),
        Float32Array.of(1, 2, 3),
      )
      await writeFile(path, bytes.subarray(0, 5))
      await assert.rejects(readHeader(path), { kind: 'truncated' })
      await writeFile(path, bytes.subarray(0, bytes.length - 1))
      await assert.rejects(readHeader(path), { kind: 'truncated' })
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('numbers are read from any address, widened exactly, and rounded where they are double', () => {
    const wide = new Uint8Array(Float32Array.of(1.5, -2.25).buffer)
    assert.deepEqual(toFloat32('F32', shifted(wide)), Float32Array.of(1.5, -2.25))
    const double = new Uint8Array(Float64Array.of(0.1, 1e300).buffer)
    assert.deepEqual(toFloat32('F64', shifted(double)), Float32Array.of(0.1, Infinity))
    const float16 = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x8000, 0x7c00, 0xfc00, 0x7e00)
    assert.deepEqual(
      toFloat32('F16', shifted(new Uint8Array(float16.buffer))),
      Float32Array.of(1, -2, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 65504, -0, Infinity, -Infinity, NaN),
    )
    const bfloat16 = Uint16Array.of(0x3f80, 0xc000, 0x0001, 0x8000, 0x7f80, 0x7fc0)
    assert.deepEqual(
      toFloat32('BF16', shifted(new Uint8Array(bfloat16.buffer))),
      Float32Array.of(1, -2, 2 ** -133, -0, Infinity, NaN),
    )
  })
})

const malformed: readonly (readonly [string, SafetensorsErrorKind, Uint8Array, RegExp])[] = [
  ['no bytes', 'truncated', new Uint8Array(0), /8 bytes.*only 0/],
  ['half a length', 'truncated', new Uint8Array(4), /8 bytes.*only 4/],
  ['a header length beyond the file', 'truncated', file('{}', 0, 3n), /3 bytes, only 2 follow/],
  ['a header length of 2⁶⁴ - 1', 'header_too_long', file('{}', 0, 2n ** 64n - 1n), /18446744073709551615.*100000000/],
  ['a header that is not UTF-8', 'header_not_utf8', file(Uint8Array.of(0x7b, 0xff, 0x7d)), /UTF-8/],
  ['a header that is not JSON', 'header_not_json', file('{"a":'), /not JSON/],
  ['a string never closed', 'header_not_json', file('{"a'), /never closed/],
  ['a list for a header', 'header_not_object', file('[]'), /"\["/],
  ['an empty header', 'header_not_object', file(''), /begins with ""/],
  ['a space before the header', 'header_not_object', file(' {}'), /" "/],
  ['a byte order mark', 'header_not_object', file('\ufeff{}'), /begins with/],
  ['two objects', 'header_not_json', file('{}{}'), /not JSON/],
  ['one name twice', 'duplicate_key', file(`{"a":${entry([1], 0, 4)},"a":${entry([1], 0, 4)}}`, 4), /"a" stands twice/],
  ['one name twice, spelt two ways', 'duplicate_key', file(`{"a":${entry([1], 0, 4)},"\\u0061":1}`, 4), /"a" stands/],
  [
    'one field twice',
    'duplicate_key',
    file('{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}}', 4),
    /dtype/,
  ],
  ['nesting', 'entry_invalid', file(`{"a":${'['.repeat(100_000)}`), /nests deeper than 3/],
  ['a tensor that is a number', 'entry_invalid', file('{"a":1}'), /tensor "a" must be/],
  ['a tensor that is null', 'entry_invalid', file('{"a":null}'), /tensor "a" must be/],
  ['an unknown field', 'entry_invalid', file('{"a":{"dtype":"F32","extra":1}}'), /tensor "a".*"extra"/],
  ['an unknown dtype', 'dtype_unknown', file(`{"a":${entry([1], 0, 4, 'F31')}}`, 4), /"a".*"F31".*F32/],
  ['a dtype of the prototype', 'dtype_unknown', file(`{"a":${entry([1], 0, 4, 'toString')}}`, 4), /toString/],
  ['no dtype', 'dtype_unknown', file('{"a":{"shape":[],"data_offsets":[0,4]}}', 4), /undefined/],
  ['a negative extent', 'shape_invalid', file(`{"a":${entry([-1], 0, 4)}}`, 4), /"a"/],
  ['a negative zero', 'shape_invalid', file('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), /"a"/],
  ['a broken extent', 'shape_invalid', file(`{"a":${entry([1.5], 0, 6)}}`, 6), /"a"/],
  [
    'an extent beyond 2⁵³',
    'shape_invalid',
    file('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,0]}}'),
    /"a"/,
  ],
  ['a shape that overflows', 'shape_invalid', file(`{"a":${entry([2 ** 40, 2 ** 40, 0], 0, 0)}}`), /"a".*overflows/],
  [
    'a shape of 17 dimensions',
    'shape_invalid',
    file(`{"a":${entry(Array<number>(17).fill(1), 0, 4)}}`, 4),
    /at most 16/,
  ],
  ['no shape', 'shape_invalid', file('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), /"a"/],
  ['negative offsets', 'offsets_invalid', file(`{"a":${entry([1], -4, 0)}}`), /"a"/],
  ['offsets the wrong way round', 'offsets_invalid', file(`{"a":${entry([1], 4, 0)}}`, 4), /"a" ends at offset 0.*4/],
  ['three offsets', 'offsets_invalid', file('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4,8]}}', 4), /"a"/],
  ['a range too short for the shape', 'size_mismatch', file(`{"a":${entry([2, 2], 0, 12)}}`, 12), /16 bytes.*span 12/],
  [
    'overlapping tensors',
    'overlap',
    file(`{"a":${entry([2], 0, 8)},"b":${entry([1], 4, 8)}}`, 8),
    /"b" begins at byte/,
  ],
  ['the same range twice', 'overlap', file(`{"a":${entry([1], 0, 4)},"b":${entry([1], 0, 4)}}`, 4), /"b"/],
  ['a hole before the first', 'hole', file(`{"a":${entry([1], 4, 8)}}`, 8), /"a" begins/],
  ['a hole between', 'hole', file(`{"a":${entry([1], 0, 4)},"b":${entry([1], 8, 12)}}`, 12), /"b" begins/],
  [
    'bytes after the last tensor',
    'trailing_bytes',
    file(`{"a":${entry([1], 0, 4)}}`, 5),
    /end at byte \d+, the file at \d+/,
  ],
  [
    'fewer bytes than the tensors take',
    'truncated',
    file(`{"a":${entry([1], 0, 4)}}`, 3),
    /end at byte \d+, the file at/,
  ],
  ['an offset far beyond the file', 'truncated', file(`{"a":${entry([2 ** 50], 0, 2 ** 52)}}`, 4), /the file at/],
  ['metadata that is a list', 'metadata_invalid', file('{"__metadata__":[]}'), /__metadata__/],
  ['a number in the metadata', 'metadata_invalid', file('{"__metadata__":{"a":1}}'), /"a" must be text, not number/],
  ['an object in the metadata', 'metadata_invalid', file('{"__metadata__":{"a":{}}}'), /"a" must be text, not object/],
  ['a name too long', 'name_invalid', file(`{"${'n'.repeat(513)}":${entry([], 0, 4)}}`, 4), /512 characters.*not 513/],
  ['an empty name', 'name_invalid', file(`{"":${entry([], 0, 4)}}`, 4), /1 to 512/],
  ['a name with half a surrogate pair', 'name_invalid', file(`{"\\ud800":${entry([], 0, 4)}}`, 4), /valid text/],
]

describe('safetensors, malformed', () => {
  for (const [what, kind, bytes, message] of malformed) {
    test(`${what} is refused`, () => {
      assert.throws(
        () => readSafetensors(bytes),
        (error) => {
          assert.ok(error instanceof SafetensorsError, String(error))
          assert.equal(error.kind, kind, error.message)
          assert.match(error.message, message)
          return true
        },
      )
    })
  }

  test('more tensors than the limit are refused', () => {
    const names = Array.from({ length: 100_001 }, (_, i) => `"${i}":0`)
    assert.throws(() => readSafetensors(file(`{${names.join(',')}}`)), { kind: 'too_many_tensors' })
  })

  test('a caller may set a smaller header limit', () => {
    const bytes = writeSafetensors(tensors)
    assert.throws(() => readSafetensors(bytes, 64), { kind: 'header_too_long' })
  })
})

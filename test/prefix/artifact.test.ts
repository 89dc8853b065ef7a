// Prefix artifacts: they come back as they went out, and what is wrong in one is named.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkPrefixFits, decodePrefix, encodePrefix } from '../../src/prefix/artifact.ts'
import { readSafetensors, type TensorToWrite, toFloat32, writeSafetensors } from '../../src/tensor/safetensors.ts'
import { samplePrefix } from './sample-prefix.ts'

interface Parts {
  metadata: Record<string, string>
  tensors: TensorToWrite[]
}

/** A valid artifact taken apart, changed and put together again. */
function altered(change: (parts: Parts) => void): Uint8Array {
  const { metadata, tensors } = readSafetensors(encodePrefix(samplePrefix()))
  const parts: Parts = { metadata: { ...metadata }, tensors: [] }
  for (const [name, { shape, bytes }] of tensors) {
    parts.tensors.push({ name, dtype: 'F32', shape, data: toFloat32('F32', bytes) })
  }
  change(parts)
  return writeSafetensors(parts.tensors, parts.metadata)
}

function withField(name: string, value: string): Uint8Array {
  return altered(({ metadata }) => {
    metadata[name] = value
  })
}

function renamed(from: string, to: string): Uint8Array {
  return altered((parts) => {
    parts.tensors = parts.tensors.map((tensor) => (tensor.name === from ? { ...tensor, name: to } : tensor))
  })
}

describe('prefix artifacts', () => {
  test('a prefix comes back as it went out, and its bytes are always the same', () => {
    const bytes = encodePrefix(samplePrefix())
    assert.deepEqual(decodePrefix(bytes), samplePrefix())
    assert.deepEqual(encodePrefix(samplePrefix()), bytes)
    assert.notDeepEqual(encodePrefix(samplePrefix({}, 0.25)), bytes)
  })

  test('the file has the names that other programs look for', () => {
    const { metadata, tensors } = readSafetensors(encodePrefix(samplePrefix()))
    assert.equal(metadata['format'], 'preamble.prefix')
    assert.equal(metadata['version'], '1')
    assert.equal(metadata['textPositionStart'], '3')
    assert.deepEqual([...tensors.keys()], ['decoder_self.keys', 'decoder_self.values'])
    assert.deepEqual(tensors.get('decoder_self.keys')?.shape, [2, 2, 3, 4])
  })

  const fields: readonly (readonly [string, string, RegExp])[] = [
    ['format', 'pt', /format is "pt", it must be preamble\.prefix/],
    ['version', '3', /version is "3", it must be 1 or 2/],
    ['attachment', 'everywhere', /attachment is "everywhere", it must be decoder_self or/],
    ['prefixLength', '0', /prefixLength is "0", it must be a whole number from 1 to 1024/],
    ['prefixLength', '1025', /prefixLength is "1025"/],
    ['prefixLength', '3.0', /prefixLength is "3\.0"/],
    ['prefixLength', '5', /textPositionStart is 3, it must be 0 or prefixLength, 5/],
    ['textPositionStart', '2', /textPositionStart is 2, it must be 0 or prefixLength, 3/],
    ['layers', '-1', /layers is "-1"/],
    ['layers', '3', /decoder_self\.keys has shape \[2, 2, 3, 4\], its header says \[3, 2, 3, 4\]/],
    ['heads', '1e3', /heads is "1e3"/],
    ['headDim', '', /headDim is ""/],
    ['modelSha256', 'A'.repeat(64), /modelSha256 is "A+", it must be 64 of 0-9 a-f/],
    ['tokenizerSha256', 'abc', /tokenizerSha256 is "abc"/],
    ['template', 'no place for it', /template is "no place for it", it must hold \{input\}/],
    ['template', `{input}${'x'.repeat(4096)}`, /template has 4103 characters, at most 4096/],
    ['training', '{', /training is "\{", it must be JSON/],
    ['training', '[1]', /training is "\[1\]", it must be a JSON object/],
    ['extra', '1', /extra is a field that the format does not know/],
  ]
  for (const [name, value, message] of fields) {
    test(`the field ${name} = ${value.slice(0, 20)} is refused`, () => {
      assert.throws(() => decodePrefix(withField(name, value)), { code: 'prefix_invalid', message })
    })
  }

  test('every missing field is named', () => {
    for (const name of Object.keys(readSafetensors(encodePrefix(samplePrefix())).metadata)) {
      const bytes = altered(({ metadata }) => delete metadata[name])
      const refused = { code: 'prefix_invalid', message: new RegExp(`${name} is missing`), details: { field: name } }
      assert.throws(() => decodePrefix(bytes), refused, name)
    }
  })

  test('numbers that are not finite are refused, reading and writing', () => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const bytes = altered(({ tensors }) => {
        const values = tensors.find(({ name }) => name === 'decoder_self.values')
        values?.data.fill(bad, 5, 6)
      })
      const refused = { code: 'prefix_invalid', message: /values has -?(NaN|Infinity) at index 5/ }
      assert.throws(() => decodePrefix(bytes), refused)
      const prefix = samplePrefix()
      prefix.values[5] = bad
      assert.throws(() => encodePrefix(prefix), refused)
    }
  })

  test('tensors that are missing, unknown or of another type are refused', () => {
    const missing = altered((parts) => parts.tensors.pop())
    assert.throws(() => decodePrefix(missing), {
      code: 'prefix_invalid',
      message: /decoder_self\.(keys|values) is missing/,
    })
    const unknown = renamed('decoder_self.keys', 'cross.keys')
    assert.throws(() => decodePrefix(unknown), { code: 'prefix_invalid', message: /cross\.keys is a tensor/ })
    const text = Buffer.from(encodePrefix(samplePrefix())).toString('latin1')
    const integers = Buffer.from(text.replace('"F32"', '"I32"'), 'latin1')
    assert.throws(() => decodePrefix(integers), { code: 'prefix_invalid', message: /dtype I32, it must be F32/ })
  })

  test('files that are not safetensors are refused with the reason', () => {
    const bytes = encodePrefix(samplePrefix())
    const refused = { code: 'prefix_invalid', message: /not a valid safetensors file/ }
    assert.throws(() => decodePrefix(new Uint8Array(0)), {
      ...refused,
      details: { field: 'file', reason: 'truncated' },
    })
    assert.throws(() => decodePrefix(bytes.subarray(0, bytes.length - 1)), refused)
    const lie = new Uint8Array(bytes).fill(0xff, 0, 8)
    assert.throws(() => decodePrefix(lie), { ...refused, details: { field: 'file', reason: 'header_too_long' } })
  })

  test('what could not be read back is not written', () => {
    assert.throws(() => encodePrefix(samplePrefix({ template: 'none' })), { code: 'prefix_invalid' })
    assert.throws(() => encodePrefix({ ...samplePrefix(), keys: new Float32Array(3) }), {
      code: 'prefix_invalid',
      message: /keys has 3 numbers, the header says \[2, 2, 3, 4\], 48/,
    })
  })
})

describe('a prefix and the model that is to play it', () => {
  const model = {
    name: 'gpt2',
    sha256: 'a'.repeat(64),
    tokenizerSha256: 'b'.repeat(64),
    layers: 2,
    heads: 2,
    headDim: 4,
    positionsMax: 16,
  }

  test('fit together when everything agrees', () => {
    assert.doesNotThrow(() => checkPrefixFits(samplePrefix().header, model))
  })

  const cases: readonly (readonly [string, Parameters<typeof samplePrefix>[0], RegExp])[] = [
    ['layers', { layers: 12 }, /prefix has layers 12, the model gpt2 has 2/],
    ['heads', { heads: 3 }, /prefix has heads 3, the model gpt2 has 2/],
    ['headDim', { headDim: 8 }, /prefix has headDim 8, the model gpt2 has 4/],
    [
      'modelSha256',
      { modelSha256: 'c'.repeat(64) },
      /trained for the model with sha256 c+, this service runs gpt2, a+/,
    ],
    ['tokenizerSha256', { tokenizerSha256: 'd'.repeat(64) }, /tokenizer d+, gpt2 has b+/],
    ['attachment', { attachment: 'cross' }, /attached to cross, the model gpt2 has decoder_self/],
    ['textPositionStart', { textPositionStart: 0 }, /starts at position 0 .* at 3 in gpt2/],
    ['prefixLength', { prefixLength: 16 }, /takes 16 positions, the model gpt2 has 16/],
  ]
  for (const [field, changes, message] of cases) {
    test(`do not where ${field} differs`, () => {
      assert.throws(
        () => checkPrefixFits(samplePrefix(changes).header, model),
        (error: Error & { code: string; details: Record<string, unknown> }) => {
          assert.equal(error.code, 'prefix_model_mismatch')
          assert.match(error.message, message)
          assert.equal(error.details['field'], field)
          return true
        },
      )
    })
  }
})

// The paper's own checkpoints: the network is folded as PyTorch evaluates it, and other layouts are refused by name.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ErrorCode } from '../../src/errors/errors.ts'
import { readPaper } from '../../src/prefix/paper.ts'
import { foldToken } from '../../src/prefix/paper-network.ts'
import { readSafetensors, type TensorToWrite, toFloat32, writeSafetensors } from '../../src/tensor/safetensors.ts'
import { assertClose } from '../golden/gpt2.ts'
import { paperModel, peftGolden, tinyModel } from '../golden/peft.ts'
import { rawSafetensors, text } from './foreign-files.ts'

/** The golden checkpoint with tensors changed; null takes one away. */
function altered(changes: Readonly<Record<string, Omit<TensorToWrite, 'name' | 'dtype'> | null>>): Uint8Array {
  const tensors = new Map<string, TensorToWrite>()
  for (const [name, { shape, bytes }] of readSafetensors(paperModel()).tensors) {
    tensors.set(name, { name, dtype: 'F32', shape, data: toFloat32('F32', bytes) })
  }
  for (const [name, change] of Object.entries(changes)) {
    if (change === null) tensors.delete(name)
    else tensors.set(name, { name, dtype: 'F32', ...change })
  }
  return writeSafetensors([...tensors.values()], { format: 'pt' })
}

function zeros(...shape: number[]) {
  return { shape, data: new Float32Array(shape.reduce((product, extent) => product * extent, 1)) }
}

/** A checkpoint whose input_tokens were saved, as a buffer of these. */
function withTokens(tokens: readonly bigint[]): Uint8Array {
  const golden = paperModel()
  const headerLength = Number(new DataView(golden.buffer, golden.byteOffset).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(golden.subarray(8, 8 + headerLength))) as Record<string, object>
  const data = golden.subarray(8 + headerLength)
  const bytes = new Uint8Array(BigInt64Array.from(tokens).buffer)
  const end = data.length + bytes.length
  header['input_tokens'] = { dtype: 'I64', shape: [tokens.length], data_offsets: [data.length, end] }
  const name = text(JSON.stringify(header))
  const length = new Uint8Array(BigUint64Array.of(BigInt(name.length)).buffer)
  return new Uint8Array(Buffer.concat([length, name, data, bytes]))
}

describe("the paper's checkpoints", () => {
  test('the network is folded to the keys and values that PyTorch gets in float64', async () => {
    const { header, keys, values } = await readPaper(paperModel(), tinyModel)
    assertClose('keys', keys, peftGolden.paper.keys.data, 1e-7)
    assertClose('values', values, peftGolden.paper.values.data, 1e-7)
    assert.deepEqual(
      [header.prefixLength, header.textPositionStart, header.template, header.training],
      [5, 5, ' {input} <|endoftext|>', { importedFrom: 'paper', reparametrization: 16 }],
    )
    assert.equal((await readPaper(paperModel(), tinyModel, 'Q: {input}')).header.template, 'Q: {input}')
  })

  test('a token is W·tanh(V·e + a) + b', () => {
    const network = {
      embedding: Float32Array.of(9, 9, 1, 2),
      hiddenWeight: Float32Array.of(0.5, 0.25, 0, -1, 1, 0),
      hiddenBias: Float32Array.of(0, 1, -1),
      outputWeight: Float32Array.of(1, 0, 0, 0, 2, 3),
      outputBias: Float32Array.of(10, 20),
    }
    assert.deepEqual([...foldToken(network, 1)], [10 + Math.tanh(1), 20 + 2 * Math.tanh(-1) + 3 * Math.tanh(0)])
  })

  test('input_tokens may stand in it when they count the rows', async () => {
    const plain = await readPaper(paperModel(), tinyModel)
    assert.deepEqual(await readPaper(withTokens([0n, 1n, 2n, 3n, 4n]), tinyModel), plain)
    const refused = { code: 'prefix_invalid', message: /input_tokens other than the numbers from 0 to 4/ }
    await assert.rejects(readPaper(withTokens([1n, 0n, 2n, 3n, 4n]), tinyModel), refused)
    await assert.rejects(readPaper(withTokens([0n, 1n]), tinyModel), refused)
  })
})

const long = { 'wte.weight': zeros(64, 32) }
const refused: readonly (readonly [string, Uint8Array, ErrorCode, RegExp])[] = [
  ['no network', rawSafetensors('x', 'U8', [1], new Uint8Array(1)), 'prefix_invalid', /"x".*lacks wte.weight/],
  ['a bias missing', altered({ 'control_trans.2.bias': null }), 'prefix_invalid', /lacks control_trans.2.bias/],
  ['a tensor too many', altered({ 'lm_head.weight': zeros(2) }), 'prefix_invalid', /"lm_head.weight".*wte.weight/],
  ['a deeper network', altered({ 'control_trans.4.weight': zeros(2, 2) }), 'not_supported', /deep_param/],
  ['the infix variant', altered({ 'wte2.weight': zeros(5, 32) }), 'not_supported', /use_infix/],
  ['a prefix of BART', altered({ 'wte_enc.weight': zeros(5, 32) }), 'not_supported', /BART/],
  [
    'no network in the ablation',
    writeSafetensors([{ name: 'control_trans', dtype: 'F32', ...zeros(640) }]),
    'not_supported',
    /init_shallow/,
  ],
  [
    'layers that do not meet',
    altered({ 'control_trans.0.bias': zeros(15) }),
    'prefix_invalid',
    /0.bias \[15\].*\[16\]/,
  ],
  ['an embedding of no rows', altered({ 'wte.weight': zeros(0, 32) }), 'prefix_invalid', /wte.weight \[0, 32\]/],
  [
    'another width',
    altered({ 'wte.weight': zeros(5, 48), 'control_trans.0.weight': zeros(16, 48) }),
    'prefix_model_mismatch',
    /width 48.*tiny has 32/,
  ],
  [
    'another number of layers',
    altered({ 'control_trans.2.weight': zeros(192, 16), 'control_trans.2.bias': zeros(192) }),
    'prefix_model_mismatch',
    /192.*tiny has 128/,
  ],
  ['more positions than the model has', altered(long), 'prefix_model_mismatch', /64 positions.*tiny has 64/],
  ['a pickle', Uint8Array.of(0x80, 2, 0x8a), 'prefix_invalid', /pickle/],
  [
    'numbers that are not finite',
    altered({ 'control_trans.0.bias': { shape: [16], data: new Float32Array(16).fill(NaN) } }),
    'prefix_invalid',
    /NaN in control_trans.0.bias/,
  ],
]

describe("refused of the paper's checkpoints", () => {
  for (const [name, bytes, code, message] of refused) {
    test(name, async () => {
      await assert.rejects(readPaper(bytes, tinyModel), { name: 'ServiceError', code, message })
    })
  }
})

// PEFT's two files, in and out: the layout, what is tolerated, and what is refused with both sides named.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ErrorCode } from '../../src/errors/errors.ts'
import { decodePrefix, encodePrefix } from '../../src/prefix/artifact.ts'
import { type PeftFiles, readPeft, writePeft } from '../../src/prefix/peft.ts'
import { readSafetensors } from '../../src/tensor/safetensors.ts'
import { assertGolden } from '../golden.ts'
import { adapterFiles, peftFolder, tinyModel } from '../golden/peft.ts'
import { rawSafetensors, text, withConfig, withTensor } from './foreign-files.ts'
import { samplePrefix } from './sample-prefix.ts'

const baseName = 'golden/tiny-gpt2'

/** Numbers that name their place: 1000·token + column. */
function numbered(dtype: 'F32' | 'F64'): PeftFiles {
  const numbers = Array.from({ length: 5 * 128 }, (_, i) => 1000 * Math.floor(i / 128) + (i % 128))
  const { buffer } = dtype === 'F32' ? Float32Array.from(numbers) : Float64Array.from(numbers)
  const model = rawSafetensors('prompt_embeddings', dtype, [5, 128], new Uint8Array(buffer))
  return { ...adapterFiles('float32'), model }
}

describe('import from PEFT', () => {
  test('column ((2·layer + s)·heads + head)·headDim + i of a row is number i of that head', () => {
    for (const dtype of ['F32', 'F64'] as const) {
      const { keys, values } = readPeft(numbered(dtype), tinyModel)
      let at = 0
      for (let layer = 0; layer < 2; layer++)
        for (let head = 0; head < 4; head++)
          for (let token = 0; token < 5; token++)
            for (let i = 0; i < 8; i++, at++) {
              assert.equal(keys[at], 1000 * token + (2 * layer * 4 + head) * 8 + i)
              assert.equal(values[at], 1000 * token + ((2 * layer + 1) * 4 + head) * 8 + i)
            }
      assert.deepEqual([keys.length, values.length], [at, at])
    }
  })

  test('the prefix belongs to the model that takes it, and says where it came from', () => {
    assert.deepEqual(readPeft(adapterFiles('float32'), tinyModel).header, {
      attachment: 'decoder_self',
      textPositionStart: 5,
      prefixLength: 5,
      layers: 2,
      heads: 4,
      headDim: 8,
      modelSha256: tinyModel.sha256,
      tokenizerSha256: tinyModel.tokenizerSha256,
      template: '{input}',
      training: { importedFrom: 'peft', baseModelNameOrPath: baseName, peftVersion: '0.21.2' },
    })
    assert.equal(readPeft(adapterFiles('float32'), tinyModel, 'Q: {input}').header.template, 'Q: {input}')
  })

  test('unknown fields, and all but peft_type missing or null, are tolerated', () => {
    const whole = readPeft(adapterFiles('float32'), tinyModel)
    const bare = {
      ...adapterFiles('float32'),
      config: text('{"peft_type":"PREFIX_TUNING","task_type":null,"later":[{}]}'),
    }
    const { header, keys, values } = readPeft(bare, tinyModel)
    assert.deepEqual([keys, values], [whole.keys, whole.values])
    assert.deepEqual(header.training, { importedFrom: 'peft', baseModelNameOrPath: null, peftVersion: null })
    assert.deepEqual(readPeft(withConfig({ prefix_projection: true, encoder_hidden_size: 7 }), tinyModel), whole)
  })
})

const golden = adapterFiles('float32')
const infinite = { ...golden, model: withTensor([5, 128], { fill: Infinity }).model }
const refused: readonly (readonly [string, PeftFiles, ErrorCode, RegExp])[] = [
  ['another peft_type', withConfig({ peft_type: 'LORA' }), 'not_supported', /"LORA".*PREFIX_TUNING/],
  ['no peft_type', withConfig({ peft_type: undefined }), 'prefix_invalid', /no peft_type.*PREFIX_TUNING/],
  [
    'a task of encoder and decoder',
    withConfig({ task_type: 'SEQ_2_SEQ_LM' }),
    'prefix_model_mismatch',
    /SEQ_2_SEQ_LM.*tiny has CAUSAL_LM/,
  ],
  [
    'two submodules',
    withConfig({ num_transformer_submodules: 2 }),
    'prefix_model_mismatch',
    /submodules 2.*tiny has 1/,
  ],
  [
    'another number of virtual tokens',
    withConfig({ num_virtual_tokens: 6 }),
    'prefix_invalid',
    /\[5, 128\].*num_virtual_tokens 6/,
  ],
  [
    'more layers than the tensor',
    withConfig({ num_layers: 3 }),
    'prefix_invalid',
    /\[5, 128\].*3 · 2 · token_dim 32 = 192/,
  ],
  ['a width other than the tensor', withConfig({ token_dim: 64 }), 'prefix_invalid', /\[5, 128\].*token_dim 64 = 256/],
  [
    'heads other than the model',
    withConfig({ num_attention_heads: 8 }),
    'prefix_model_mismatch',
    /num_attention_heads 8.*tiny has 4/,
  ],
  [
    'heads that do not divide the width',
    withConfig({ num_attention_heads: 5 }),
    'prefix_invalid',
    /token_dim 32.*num_attention_heads 5/,
  ],
  [
    'layers other than the model',
    withConfig({ num_layers: 4, token_dim: 16 }),
    'prefix_model_mismatch',
    /num_layers 4.*tiny has 2/,
  ],
  [
    'a width other than the model',
    withConfig({ num_layers: null, token_dim: 48 }),
    'prefix_model_mismatch',
    /token_dim 48.*tiny has 32/,
  ],
  [
    'columns other than the model',
    { ...withTensor([5, 96]), config: withConfig({ num_layers: null }).config },
    'prefix_model_mismatch',
    /96.*tiny has 128/,
  ],
  ['a number that is none', withConfig({ num_layers: '2' }), 'prefix_invalid', /num_layers "2".*whole number/],
  [
    'a text that is none',
    withConfig({ base_model_name_or_path: 3 }),
    'prefix_invalid',
    /base_model_name_or_path 3.*text/,
  ],
  [
    'a tensor of another name',
    withTensor([5, 128], { name: 'base_model.lora_A' }),
    'prefix_invalid',
    /"base_model.lora_A".*prompt_embeddings/,
  ],
  ['a tensor of three dimensions', withTensor([5, 2, 64]), 'prefix_invalid', /\[5, 2, 64\].*must be/],
  ['no virtual tokens', withTensor([0, 128]), 'prefix_invalid', /\[0, 128\].*must be/],
  ['numbers that are not finite', infinite, 'prefix_invalid', /Infinity in prompt_embeddings at index 0/],
  [
    'whole numbers',
    { ...golden, model: rawSafetensors('prompt_embeddings', 'I8', [5, 128], new Uint8Array(640)) },
    'prefix_invalid',
    /I8.*F32/,
  ],
  [
    'more positions than the model has',
    { ...withTensor([64, 128]), config: withConfig({ num_virtual_tokens: 64 }).config },
    'prefix_model_mismatch',
    /64 positions.*tiny has 64/,
  ],
  [
    'more than any prefix has',
    { ...withTensor([1025, 128]), config: withConfig({ num_virtual_tokens: 1025 }).config },
    'prefix_invalid',
    /1025.*1024/,
  ],
  [
    'a config that is not JSON',
    { ...golden, config: text('peft_type: PREFIX_TUNING') },
    'prefix_invalid',
    /adapter_config is not JSON/,
  ],
  ['a config that is a list', { ...golden, config: text('[1]') }, 'prefix_invalid', /a list.*object/],
  [
    'a config of broken text',
    { ...golden, config: Uint8Array.of(0x22, 0xff, 0x22) },
    'prefix_invalid',
    /adapter_config is not JSON/,
  ],
  [
    'a config that is endless',
    { ...golden, config: new Uint8Array(1024 * 1024 + 1) },
    'prefix_invalid',
    /1048577 bytes.*1048576/,
  ],
  ['the two files swapped', { config: golden.model, model: golden.config }, 'prefix_invalid', /swapped/],
  ['large files swapped', { config: withTensor([900, 512]).model, model: golden.config }, 'prefix_invalid', /swapped/],
  [
    'the config twice',
    { ...golden, model: golden.config },
    'prefix_invalid',
    /adapter_model is not a valid safetensors file/,
  ],
  [
    'an empty tensor file',
    { ...golden, model: new Uint8Array(0) },
    'prefix_invalid',
    /adapter_model is not a valid safetensors file/,
  ],
  ['a pickle', { ...golden, model: text('PK\x03\x04archive/data.pkl') }, 'prefix_invalid', /pickle.*safetensors/],
]

describe('refused from PEFT', () => {
  for (const [name, files, code, message] of refused) {
    test(name, () => {
      assert.throws(() => readPeft(files, tinyModel), { name: 'ServiceError', code, message })
    })
  }
})

describe('export to PEFT', () => {
  test('the files are those that PEFT was seen to load, and the tensor file is byte for byte its own', async () => {
    // By way of our own file, as the service keeps it.
    const prefix = decodePrefix(encodePrefix(readPeft(adapterFiles('float32'), tinyModel)))
    const { config, model } = writePeft(prefix, 'another name')
    await assertGolden(`${peftFolder}/exported/adapter_config.json`, config)
    await assertGolden(`${peftFolder}/exported/adapter_model.safetensors`, model)
    assert.deepEqual(Buffer.from(model), golden.model)
  })

  test('what goes out comes back with the same numbers, from half precision too', () => {
    for (const name of ['float16', 'bfloat16', 'projection'] as const) {
      const prefix = readPeft(adapterFiles(name), tinyModel)
      assert.deepEqual(readPeft(writePeft(prefix, baseName), tinyModel).keys, prefix.keys)
      assert.deepEqual(readPeft(writePeft(prefix, baseName), tinyModel).values, prefix.values)
    }
  })

  test('the config names the model that PEFT is to load, and the tensor file carries the mark of PyTorch', () => {
    const { config, model } = writePeft(samplePrefix(), 'gpt2')
    const { base_model_name_or_path: base, ...fields } = JSON.parse(new TextDecoder().decode(config))
    assert.equal(base, 'gpt2')
    assert.deepEqual(fields, {
      encoder_hidden_size: 8,
      inference_mode: true,
      num_attention_heads: 2,
      num_layers: 2,
      num_transformer_submodules: 1,
      num_virtual_tokens: 3,
      peft_type: 'PREFIX_TUNING',
      prefix_projection: false,
      task_type: 'CAUSAL_LM',
      token_dim: 8,
    })
    const { metadata, tensors } = readSafetensors(model)
    assert.deepEqual(metadata, { format: 'pt' })
    assert.deepEqual(tensors.get('prompt_embeddings')?.shape, [3, 32])
    const imported = readPeft(adapterFiles('float32'), tinyModel)
    assert.match(new TextDecoder().decode(writePeft(imported, 'gpt2').config), /"golden\/tiny-gpt2"/)
  })

  test('a prefix that PEFT would play otherwise is refused, and why is said', () => {
    assert.throws(() => writePeft(samplePrefix({ attachment: 'cross' }), 'gpt2'), {
      code: 'not_supported',
      message: /attached to cross, PEFT plays attachment decoder_self alone/,
    })
    assert.throws(() => writePeft(samplePrefix({ textPositionStart: 0 }), 'gpt2'), {
      code: 'not_supported',
      message: /text from position 0 on, PEFT plays textPositionStart 3 alone/,
    })
  })
})

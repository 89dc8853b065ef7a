// MODEL folders that cannot be used: each is refused with the file, the tensor or the field that is wrong.
import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { readSafetensors, toFloat32, writeSafetensors } from '../../src/tensor/safetensors.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'
import { goldenFolder } from '../golden/gpt2.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-model-'))
  await cp(`${goldenFolder}/model`, folder, { recursive: true })
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

async function edit(
  change: (tensors: Map<string, { shape: readonly number[]; data: Float32Array }>) => void,
): Promise<void> {
  const file = path.join(folder, 'model.safetensors')
  const { tensors } = readSafetensors(await readFile(file))
  const all = new Map([...tensors].map(([name, { shape, bytes }]) => [name, { shape, data: toFloat32('F32', bytes) }]))
  change(all)
  await writeFile(
    file,
    writeSafetensors([...all].map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, data }))),
  )
}

async function configure(changes: object): Promise<void> {
  const file = path.join(folder, 'config.json')
  await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), ...changes }))
}

test('a missing tensor is named', async () => {
  await edit((tensors) => tensors.delete('transformer.h.1.mlp.c_fc.bias'))
  await assert.rejects(openModel(folder), {
    code: 'model_invalid',
    message: /tensor h\.1\.mlp\.c_fc\.bias is in none of model\.safetensors/,
  })
})

test('a tensor of another shape is named with both shapes', async () => {
  await edit((tensors) => tensors.set('transformer.ln_f.bias', { shape: [31], data: new Float32Array(31) }))
  await assert.rejects(openModel(folder), {
    code: 'model_invalid',
    message: /tensor ln_f\.bias is \[31\], config\.json asks for \[32\]/,
  })
})

test('a truncated file is refused', async () => {
  await truncate(path.join(folder, 'model.safetensors'), 5000)
  await assert.rejects(openModel(folder), { code: 'model_invalid', message: /model\.safetensors: / })
})

test('a missing folder is named', async () => {
  await assert.rejects(openModel('/nowhere/at/all'), {
    code: 'model_invalid',
    message: /cannot read \/nowhere\/at\/all\/config\.json/,
  })
})

for (const [field, value, message] of [
  ['model_type', 'llama', /model_type is "llama", supported is "gpt2"/],
  ['activation_function', 'relu', /activation_function is "relu", supported is "gelu_new" or "gelu_pytorch_tanh"/],
  ['n_head', 5, /n_head is 5, supported is a divisor of n_embd 32/],
  ['n_layer', 0, /n_layer is 0, supported is a positive integer/],
  ['tie_word_embeddings', false, /tie_word_embeddings is false/],
] as const) {
  test(`config.json with ${field} ${String(value)} is refused`, async () => {
    await configure({ [field]: value })
    await assert.rejects(openModel(folder), { code: 'model_invalid', message })
  })
}

test('a folder of links to files elsewhere, as in the cache of Hugging Face, runs', async () => {
  const snapshot = path.join(folder, 'snapshots', 'revision')
  const files = await readdir(folder)
  await mkdir(path.join(folder, 'blobs'))
  await mkdir(snapshot, { recursive: true })
  for (const file of files) {
    await rename(path.join(folder, file), path.join(folder, 'blobs', `of-${file}`))
    await symlink(path.join('..', '..', 'blobs', `of-${file}`), path.join(snapshot, file))
  }
  const { weights, config, forwardGraph } = await openModel(snapshot)
  const { layers, heads, headDim } = config
  const layout = { layers, heads, headDim, rowsMax: 1, positionsMax: 8 }
  const session = await createOnnxRuntime({ threads: 1 }).openSession(forwardGraph(), weights, layout)
  const logits = await session.extend(0, [[1, 2, 3]])
  assert.ok(logits.length > 0 && logits.every(Number.isFinite))
  await session.dispose()
})

test('an index that points outside the folder is refused', async () => {
  await writeFile(
    path.join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ weight_map: { 'wte.weight': '../secret' } }),
  )
  await assert.rejects(openModel(folder), { code: 'model_invalid', message: /no usable weight_map/ })
})

test('a folder without tokenizer files says which ones there may be', async () => {
  await assert.rejects(openTokenizer(folder), {
    code: 'model_invalid',
    message: /neither tokenizer\.json nor vocab\.json and merges\.txt/,
  })
})

test('vocab.json and merges.txt make the tokenizer that tokenizer.json makes', async () => {
  const { model } = JSON.parse(await readFile('model/tokenizer.json', 'utf8')) as {
    model: { vocab: Record<string, number>; merges: (string | [string, string])[] }
  }
  await writeFile(path.join(folder, 'vocab.json'), JSON.stringify(model.vocab))
  const merges = model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')))
  await writeFile(path.join(folder, 'merges.txt'), `#version: 0.2\n${merges.join('\n')}\n`)
  const [pair, single] = [await openTokenizer(folder), await openTokenizer('model')]
  for (const text of [' name : The Vaults | near : Café Adriatic <|endoftext|>', "it's 12 o'clock\n\n  now", '😀']) {
    assert.deepEqual(pair.encode(text), single.encode(text))
  }
  assert.equal(pair.decode(pair.encode('Café <|endoftext|>')), 'Café ')
})

// A BART decodes as PyTorch's `generate` does: sources, prefixes and lengths of all kinds in one batch; and folders that are refused.
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { DecodeSession, Past, RowSource, Runtime } from '../../src/runtime/runtime.ts'
import { bartFolder, bartGolden as golden } from '../golden/bart.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'

const model = await openModel(`${bartFolder}/model`)
const onnx = createOnnxRuntime({ threads: 1 })
let cuda: Runtime | null = null
const runtimes = [
  { name: 'onnx', skip: false, open: (): Runtime => onnx },
  { name: 'cuda', skip: testCuda.skip, open: (): Runtime => (cuda ??= testCuda.open({ checked: true })) },
] as const
const { heads, headDim } = model.config

async function openSession(runtime: Runtime, rowsMax: number): Promise<DecodeSession> {
  const layout = { ...model.config, rowsMax, sourceMax: 96 }
  return runtime.openSession(
    model.forwardGraph(runtime.segments),
    model.weights,
    layout,
    'float32',
    model.sourceGraph(),
  )
}

function pastAt(attachment: string): Past {
  const size = heads * golden.prefixLength * headDim
  let from = 0
  for (const place of model.places) {
    if (place.attachment === attachment) {
      const part = (half: 'keys' | 'values'): Float32Array =>
        Float32Array.from(golden.prefix[half].data.slice(from, from + place.layers * size))
      return { keys: part('keys'), values: part('values'), length: golden.prefixLength, textStart: 0 }
    }
    from += place.layers * size
  }
  return assert.fail(attachment)
}

const pasts = { self: pastAt('decoder_self'), encoder: pastAt('encoder_self'), cross: pastAt('cross') }
const greedyCase = golden.generations.find(({ forced, decoding }) => !forced && Object.keys(decoding).length === 1)!

/** As many tokens as the golden text has, the most probable each time. */
async function generate(
  session: DecodeSession,
  rows: readonly (typeof greedyCase.rows)[number][],
): Promise<number[][]> {
  rows.forEach(({ prefix }, row) => session.seed(row, prefix ? pasts.self : null))
  const sources = rows.map(({ prefix, source }): RowSource => {
    const { encoder, cross } = prefix ? pasts : { encoder: null, cross: null }
    return { tokens: source, encoder, cross }
  })
  await session.read(sources.map((source, row) => ({ row, source })))
  const texts = rows.map((): number[] => [])
  const longest = Math.max(...rows.map(({ tokens }) => tokens[0]!.length))
  let inputs = rows.map(() => [2])
  for (let step = 0; step < longest; step++) {
    const logits = await session.extend(0, inputs)
    inputs = texts.map((text, row) => {
      const own = logits.subarray(row * session.vocabulary, (row + 1) * session.vocabulary)
      const token = own.indexOf(Math.max(...own))
      text.push(token)
      return [token]
    })
  }
  return texts.map((text, row) => text.slice(0, rows[row]!.tokens[0]!.length))
}

for (const { name, skip, open } of runtimes) {
  test(`${name}: rows with and without prefixes, with sources of all lengths, say in one batch what each says in PyTorch`, {
    skip,
  }, async () => {
    const session = await openSession(open(), 6)
    const texts = await generate(session, greedyCase.rows)
    assert.deepEqual(
      texts,
      greedyCase.rows.map(({ tokens }) => tokens[0]),
    )
    for (const row of greedyCase.rows) assert.deepEqual(await generate(session, [row]), [row.tokens[0]])
    await session.dispose()
  })

  test(`${name}: rows that share a source read it once, and one that is copied goes on with it`, { skip }, async () => {
    const session = await openSession(open(), 4)
    const [row] = greedyCase.rows as [(typeof greedyCase.rows)[number]]
    const source = { tokens: row.source, encoder: pasts.encoder, cross: pasts.cross }
    session.seed(0, pasts.self)
    session.seed(1, pasts.self)
    await session.read([
      { row: 0, source },
      { row: 1, source },
    ])
    const first = (await session.extend(0, [[2], [2]])).slice()
    assert.deepEqual(first.slice(0, session.vocabulary), first.slice(session.vocabulary))
    session.copy(0, 3, 0, session.lengths[0] as number)
    const next = (await session.extend(0, [[95]])).slice()
    const copied = (await session.extend(3, [[95]])).slice()
    assert.deepEqual(copied, next)
    await session.dispose()
  })
}

async function refused(changes: object, generation: object | null = null): Promise<unknown> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bart-'))
  try {
    await cp(`${bartFolder}/model`, folder, { recursive: true })
    for (const [name, change] of [
      ['config.json', changes],
      ['generation_config.json', generation ?? {}],
    ] as const) {
      const file = path.join(folder, name)
      await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), ...change }))
    }
    await openModel(folder)
    return null
  } catch (error) {
    return error
  } finally {
    await rm(folder, { recursive: true })
  }
}

for (const [changes, message] of [
  [{ model_type: 'mbart' }, /model_type is "mbart", supported is "gpt2" or "bart" \(mBART has its layer norms before/],
  [{ normalize_before: true }, /normalize_before is true, supported is false/],
  [{ add_final_layer_norm: true }, /add_final_layer_norm is true, supported is false/],
  [{ activation_function: 'relu' }, /activation_function is "relu", supported is "gelu" or/],
  [{ encoder_attention_heads: 8 }, /encoder_attention_heads is 8, supported is decoder_attention_heads, 4/],
  [{ decoder_layers: 4 }, /tensor decoder\.layers\.2\.self_attn\.q_proj\.weight and \d+ more is in none of/],
  [{ tie_word_embeddings: false }, /tie_word_embeddings is false/],
] as const) {
  test(`a folder with ${JSON.stringify(changes)} is refused`, async () => {
    const error = (await refused(changes)) as Error & { code: string }
    assert.equal(error.code, 'model_invalid')
    assert.match(error.message, message)
  })
}

test('generation_config.json has the last word on tokens, and one that is none is named', async () => {
  assert.equal(await refused({}), null)
  const error = (await refused({}, { forced_bos_token_id: 97 })) as Error
  assert.match(error.message, /forced_bos_token_id is 97, supported is a token below 97, or null/)
})

// A BART decodes as PyTorch's `generate` does: sources, prefixes and lengths of all kinds in one batch; and folders that are refused.
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import type { Graph } from '../../src/graph/graph.ts'
import { openModel } from '../../src/model/model.ts'
import { OnnxDecodeSession } from '../../src/runtime/onnx/decode-session.ts'
import type { ServingForm } from '../../src/runtime/onnx/forms.ts'
import { crossByHead, keysByPosition } from '../../src/runtime/onnx/keys-by-position.ts'
import { decodingForms, isUsable } from '../../src/runtime/onnx/measure-decoding.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { SourceReader } from '../../src/runtime/onnx/source-reader.ts'
import type { DecodeSession, Past, RowSource, Runtime } from '../../src/runtime/runtime.ts'
import { bartFolder, bartGolden as golden } from '../golden/bart.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'

const quantizedFolder = await mkdtemp(path.join(tmpdir(), 'preamble-bart-decoding-'))
after(() => rm(quantizedFolder, { recursive: true }))
const model = await openModel(`${bartFolder}/model`)
const onnx = createOnnxRuntime({ threads: 1, fast: { folder: quantizedFolder } })
let cuda: Runtime | null = null
const runtimes = [
  { name: 'onnx', skip: false, open: (): Runtime => onnx },
  { name: 'cuda', skip: testCuda.skip, open: (): Runtime => (cuda ??= testCuda.open({ checked: true })) },
] as const
const { heads, headDim } = model.config

async function openSession(runtime: Runtime, rowsMax: number, form = 'float32'): Promise<DecodeSession> {
  const layout = { ...model.config, rowsMax, sourceMax: 96 }
  return runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout, form, model.sourceGraph())
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

/** Rows with and without prefixes and their sources, and ten steps of tokens that are given: logits [steps, rows, vocabulary]. */
async function logitsOf(segments: number, shortMax: number): Promise<Float32Array[]> {
  const forward = model.forwardGraph(segments)
  const [fed, encoder] = [keysByPosition(forward), model.sourceGraph() as Graph]
  const layout = { ...model.config, rowsMax: 6, sourceMax: 96 }
  const reader = new SourceReader(await onnx.compile(crossByHead(encoder, layout), model.weights), encoder, layout)
  const program = await onnx.compile(fed, model.weights)
  const session = new OnnxDecodeSession(program, forward, layout, { reader, shortMax })
  await generate(session, greedyCase.rows)
  const logits: Float32Array[] = []
  for (let step = 0; step < 10; step++) {
    if (step === 4) session.copy(1, 4, 0, session.lengths[1] as number)
    const tokens = greedyCase.rows.map((_, row) => [(7 * step + 5 * row) % session.vocabulary])
    logits.push((await session.extend(0, tokens)).slice())
  }
  await session.dispose()
  return logits
}

for (const segments of [2, 3]) {
  test(`rows that are kept apart as long ones say the same of their sources, with ${segments} segments`, async () => {
    const expected = await logitsOf(segments, model.config.positionsMax)
    // Rows with a prefix are long soon, the others later.
    for (const [step, logits] of (await logitsOf(segments, 9)).entries()) {
      const unlike = logits.findIndex((logit, i) => !(Math.abs(logit - (expected[step]?.[i] as number)) < 1e-4))
      assert.equal(unlike, -1, `step ${step}: ${logits[unlike]}, not ${expected[step]?.[unlike]}`)
    }
  })
}

/** Of the logits' deviation; of forms with more than 8 bits. */
const tolerance = 0.05
const fineTolerance = 0.01

for (const { name, skip, open, forms } of [
  { ...runtimes[0], forms: decodingForms.filter((form) => form !== 'float32') },
  { ...runtimes[1], forms: ['bfloat16', 'float16'] },
]) {
  for (const form of forms) {
    const most = form === 'words' ? fineTolerance : tolerance
    test(`${name}: decoding in ${form} is within ${most} of the deviation of logits in float32`, {
      skip,
    }, async (t) => {
      if (name === 'onnx' && !(await isUsable(form as ServingForm, 1)))
        return t.skip(`this machine has no kernel for ${form} that is exact`)
      const logits: Float32Array[] = []
      for (const each of ['float32', form]) {
        const session = await openSession(open(), 1, each)
        const [row] = greedyCase.rows as [(typeof greedyCase.rows)[number]]
        session.seed(0, pasts.self)
        const source = { tokens: row.source, encoder: pasts.encoder, cross: pasts.cross }
        await session.read([{ row: 0, source }])
        // Several tokens, then one: a device has a way of its own for that.
        const [several, one] = [[2, ...row.tokens[0]!.slice(0, 3)], [95]]
        const answers = [(await session.extend(0, [several])).slice(), (await session.extend(0, [one])).slice()]
        logits.push(Float32Array.from(answers.flatMap((answer) => [...answer])))
        await session.dispose()
      }
      const [exact, rounded] = logits as [Float32Array, Float32Array]
      const error = deviation(rounded.map((logit, i) => logit - (exact[i] as number)))
      assert.ok(error > 0, `nothing is in ${form}`)
      assert.ok(error < most * deviation(exact), `off by ${error / deviation(exact)}`)
    })
  }
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
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

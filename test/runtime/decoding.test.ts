// Decoding in 8 bits: near float32, the same tokens nearly always, and to the bit the same whoever shares the batch.
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { Random } from '../../src/random/random.ts'
import { frozenProducts } from '../../src/runtime/onnx/forms.ts'

import { decodingForms, isUsable } from '../../src/runtime/onnx/measure-decoding.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { withQuantized } from '../../src/runtime/onnx/quantized-weights.ts'
import type { DecodeSession, Past } from '../../src/runtime/runtime.ts'
import { golden, goldenFolder } from '../golden/gpt2.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-decoding-'))
})
after(async () => {
  await rm(folder, { recursive: true })
})

async function openSession(modelFolder: string, form: string, rowsMax: number): Promise<DecodeSession> {
  const model = await openModel(modelFolder)
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder } })
  return runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax }, form)
}

const quantized = decodingForms.filter((form) => form !== 'float32')
/** Of the logits' deviation: as a product after the other through a model of a few layers adds the error of 8 bits. */
const goldenTolerance = (form: string): number => (form === 'words' ? 0.01 : 0.05)
/** Of steps at which the likeliest token is the same. */
const sameTokensMin = 0.95

const largest = (logits: Float32Array): number => logits.indexOf(Math.max(...logits))

for (const form of quantized) {
  test(`${form}: the golden logits after a stored prefix, within ${goldenTolerance(form)} of their deviation`, async (t) => {
    if (!(await isUsable(form, 1))) return t.skip(`this machine has no kernel for ${form} that is exact`)
    const session = await openSession(`${goldenFolder}/model`, form, 1)
    const { keys, values } = golden.prefix
    const past: Past = {
      keys: Float32Array.from(keys!.data),
      values: Float32Array.from(values!.data),
      length: golden.prefixLength,
    }
    for (const { prompt, ids, logits } of golden.expected.decode.prefix) {
      const width = logits.shape[1] as number
      session.seed(0, past)
      let input: readonly number[] = prompt
      for (const [step, id] of ids.entries()) {
        const actual = await session.extend(0, [input])
        const expected = logits.data.slice(step * width, (step + 1) * width)
        const error = deviation(actual.map((value, i) => value - (expected[i] as number)))
        assert.ok(error > 0, 'nothing is in 8 bits')
        const share = error / deviation(Float32Array.from(expected))
        assert.ok(share < goldenTolerance(form), `step ${step} is off by ${share}`)
        input = [id]
      }
    }
    await session.dispose()
  })

  test(`${form}: the default model continues as in float32 at nearly all steps`, async (t) => {
    if (!(await isUsable(form, 1))) return t.skip(`this machine has no kernel for ${form} that is exact`)
    const [plain, fast] = [await openSession('model', 'float32', 1), await openSession('model', form, 1)]
    const random = new Random(4)
    const prompts = Array.from({ length: 8 }, () => Array.from({ length: 12 }, () => Math.floor(random.next() * 4096)))
    let [same, steps] = [0, 0]
    for (const prompt of prompts) {
      for (const session of [plain, fast]) session.seed(0, null)
      let input = prompt
      for (let step = 0; step < 24; step++, steps++) {
        const expected = largest(await plain.extend(0, [input]))
        if (largest(await fast.extend(0, [input])) === expected) same++
        input = [expected]
      }
    }
    t.diagnostic(`${same} of ${steps} tokens are the same`)
    assert.ok(same / steps >= sameTokensMin, `${same} of ${steps} tokens are the same`)
    await Promise.all([plain.dispose(), fast.dispose()])
  })

  test(`${form}: a row's greedy tokens are the same alone and beside others`, async (t) => {
    if (!(await isUsable(form, 1))) return t.skip(`this machine has no kernel for ${form} that is exact`)
    const rows = 5
    const session = await openSession('model', form, rows)
    const random = new Random(5)
    const prompts = Array.from({ length: rows }, (_, i) =>
      Array.from({ length: 4 + 3 * i }, () => Math.floor(random.next() * 4096)),
    )
    const together = await greedy(session, prompts, 16)
    for (const [row, prompt] of prompts.entries()) {
      assert.deepEqual(together[row], (await greedy(session, [prompt], 16))[0], `row ${row}`)
    }
    await session.dispose()
  })
}

test('the form is measured once and kept; a folder that cannot be written leaves float32 and says so', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const notes: string[] = []
  const own = path.join(folder, 'chosen')
  const fast = { folder: own, note: (message: string) => void notes.push(message) }
  const form = await createOnnxRuntime({ threads: 1, fast }).decodingForm(model.forwardGraph(), model.weights)
  assert.equal(notes.length, 1)
  assert.match(notes[0] as string, new RegExp(`in the form ${form}`))
  assert.ok((await readdir(own)).includes('forms.json'))
  const again = await createOnnxRuntime({ threads: 1, fast }).decodingForm(model.forwardGraph(), model.weights)
  assert.deepEqual([again, notes.length], [form, 1])

  const layer = Object.keys(JSON.parse(await readFile(path.join(own, 'forms.json'), 'utf8')) as object)[0] as string
  const blocked = path.join(folder, 'blocked')
  await mkdir(blocked)
  await writeFile(path.join(blocked, 'forms.json'), JSON.stringify({ [layer]: 'blocks' }))
  const elsewhere = path.join(folder, 'elsewhere')
  await withQuantized(model.weights, frozenProducts(model.forwardGraph(), 'blocks'), 'blocks', elsewhere)
  for (const name of await readdir(elsewhere)) await mkdir(path.join(blocked, name))
  const warnings: string[] = []
  const runtime = createOnnxRuntime({
    threads: 1,
    fast: { folder: blocked, warn: (message) => void warnings.push(message) },
  })
  assert.equal(await runtime.decodingForm(model.forwardGraph(), model.weights), 'float32')
  assert.match(warnings[0] as string, /decoding goes on in float32/)
})

test('without a folder for weights in 8 bits decoding is in float32', async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const runtime = createOnnxRuntime({ threads: 1 })
  assert.equal(await runtime.decodingForm(model.forwardGraph(), model.weights), 'float32')
})

async function greedy(session: DecodeSession, prompts: readonly number[][], steps: number): Promise<number[][]> {
  prompts.forEach((_, row) => session.seed(row, null))
  const made: number[][] = prompts.map(() => [])
  let inputs: readonly number[][] = prompts
  for (let step = 0; step < steps; step++) {
    const logits = await session.extend(0, inputs)
    const next = prompts.map((_, i) => largest(logits.subarray(i * session.vocabulary, (i + 1) * session.vocabulary)))
    next.forEach((token, i) => made[i]?.push(token))
    inputs = next.map((token) => [token])
  }
  return made
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
}

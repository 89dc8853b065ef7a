// Sources at work on onnxruntime: which of them are read together, and in which form.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { isExact } from '../../src/runtime/onnx/measure.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { passesOf } from '../../src/runtime/onnx/source-reader.ts'
import type { RowSource } from '../../src/runtime/runtime.ts'
import { bartFolder } from '../golden/bart.ts'

const sourceOf = (length: number): RowSource => ({
  tokens: Array.from({ length }, (_, i) => 3 + ((7 * i) % 90)),
  encoder: null,
  cross: null,
})

test('sources of nearly equal length are read together, and no more than a thousand positions unless one alone has them', () => {
  const lengths = (counts: readonly number[]): number[][] =>
    passesOf(counts.map(sourceOf)).map((pass) => pass.map(({ tokens }) => tokens.length))
  assert.deepEqual(lengths([10, 2000, 500, 3, 500]), [[2000], [500, 500], [10, 3]])
  assert.deepEqual(lengths(Array.from({ length: 9 }, () => 256)), [[256, 256, 256, 256], [256, 256, 256, 256], [256]])
  assert.deepEqual(lengths([7]), [[7]])
})

test('a session that decodes in 8 bits reads in the form that was measured for many rows, and keeps the weights of both', async (t) => {
  if (!(await isExact('unsigned', 1))) return t.skip('this processor has no exact kernel for unsigned weights')
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-reading-'))
  t.after(() => rm(folder, { recursive: true }))
  const model = await openModel(`${bartFolder}/model`)
  const notes: string[] = []
  const logits = async (): Promise<Float32Array> => {
    const fast = { folder, note: (message: string) => void notes.push(message) }
    const runtime = createOnnxRuntime({ threads: 1, fast })
    const layout = { ...model.config, rowsMax: 1, sourceMax: 96 }
    const [forward, encoder] = [model.forwardGraph(), model.sourceGraph()]
    const session = await runtime.openSession(forward, model.weights, layout, 'unsigned', encoder)
    session.seed(0, null)
    await session.read([{ row: 0, source: sourceOf(20) }])
    const made = (await session.extend(0, [[2]])).slice()
    await session.dispose()
    return made
  }
  await logits()
  assert.match(notes.join(), /^sources are read through layers \[48,32\] in the form/)
  const file = path.join(folder, 'forms.json')
  const [key] = Object.keys(JSON.parse(await readFile(file, 'utf8')) as object) as [string]
  assert.match(key, /layer 48 x 32, reading in /)
  const made = new Map<string, Float32Array>()
  for (const form of ['float32', 'unsigned', 'paired']) {
    await writeFile(file, JSON.stringify({ [key]: form }))
    made.set(form, await logits())
  }
  assert.equal(notes.length, 1, 'what was measured is not measured again')
  const plain = made.get('float32') as Float32Array
  const deviation = (of: (i: number) => number): number =>
    Math.sqrt(plain.reduce((sum, _, i) => sum + of(i) ** 2, 0) / plain.length)
  for (const form of ['unsigned', 'paired']) {
    const error = deviation((i) => (made.get(form)?.[i] as number) - (plain[i] as number))
    const share = error / deviation((i) => plain[i] as number)
    t.diagnostic(`${form}: off by ${share}`)
    assert.ok(share > 0 && share < 0.05, `${form} is off by ${share}`)
  }
})

test('what a decoder says after every one of some tokens is what it says after each alone, whatever its row has read', async () => {
  const model = await openModel(`${bartFolder}/model`)
  const layout = { ...model.config, rowsMax: 2, sourceMax: 96 }
  const [forward, encoder] = [model.forwardGraph(), model.sourceGraph()]
  const session = await createOnnxRuntime({ threads: 1 }).openSession(
    forward,
    model.weights,
    layout,
    'float32',
    encoder,
  )
  const fed = [
    [2, 11, 12, 13],
    [2, 40],
  ]
  const sources = [sourceOf(20), sourceOf(7)]
  const begin = async (): Promise<void> => {
    for (const row of [0, 1]) session.seed(row, null)
    await session.read(sources.map((source, row) => ({ row, source })))
  }
  await begin()
  const together = (await session.step([{ start: 0, tokens: fed, every: true }])).slice()
  assert.equal(together.length, 6 * session.vocabulary)
  await begin()
  let at = 0
  for (const [row, tokens] of fed.entries()) {
    for (const token of tokens) {
      const alone = await session.step([{ start: row, tokens: [[token]] }])
      const from = at++ * session.vocabulary
      const off = alone.findIndex((logit, v) => !(Math.abs(logit - (together[from + v] as number)) < 1e-4))
      assert.equal(off, -1, `row ${row}, token ${token}: ${alone[off]}, not ${together[from + off]}`)
    }
  }
  await session.dispose()
})

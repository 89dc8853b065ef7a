// Prefill and decode against PyTorch, and weights in every form they come in.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { DecodeSession, Past } from '../../src/runtime/runtime.ts'
import { assertClose, golden, goldenFolder, type GoldenDecode } from '../golden/gpt2.ts'

const runtime = createOnnxRuntime({ threads: 1 })

async function openSession(folder: string): Promise<DecodeSession> {
  const model = await openModel(folder)
  return runtime.openSession(model.forwardGraph(runtime.segments), model.weights, { ...model.config, rowsMax: 4 })
}

const goldenPast: Past = {
  keys: Float32Array.from(golden.prefix['keys']!.data),
  values: Float32Array.from(golden.prefix['values']!.data),
  length: golden.prefixLength,
}

async function assertDecodes(session: DecodeSession, cases: readonly GoldenDecode[], past: Past | null): Promise<void> {
  for (const { prompt, ids, logits } of cases) {
    session.seed(0, past)
    const width = logits.shape[1] as number
    let input = prompt
    for (const [step, id] of ids.entries()) {
      const actual = await session.extend(0, [input])
      assertClose(`logits of step ${step}`, actual, logits.data.slice(step * width, (step + 1) * width), 1e-5)
      assert.equal(actual.indexOf(Math.max(...actual)), id)
      input = [id]
    }
  }
}

test('prefill and greedy steps after a stored prefix agree with PyTorch', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  await assertDecodes(session, golden.expected.decode.prefix, goldenPast)
  await session.dispose()
})

test('prefill and greedy steps of the bare model agree with PyTorch', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  await assertDecodes(session, golden.expected.decode.bare, null)
  await session.dispose()
})

test('rows with different prefixes and lengths share a batch, and each is as it would be alone', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  const [a, b, c] = golden.expected.decode.prefix as [GoldenDecode, GoldenDecode, GoldenDecode]
  const bare = golden.expected.decode.bare[1] as GoldenDecode
  const rows = [a, bare, b, c]
  rows.forEach((row, i) => session.seed(i, row === bare ? null : goldenPast))
  let inputs = rows.map((row) => row.prompt)
  for (let step = 0; step < a.ids.length; step++) {
    const logits = await session.extend(0, inputs)
    rows.forEach((row, i) => {
      const width = row.logits.shape[1] as number
      assertClose(
        `row ${i}, step ${step}`,
        logits.subarray(i * width, (i + 1) * width),
        row.logits.data.slice(step * width, (step + 1) * width),
        1e-5,
      )
    })
    inputs = rows.map((row) => [row.ids[step] as number])
  }
  await session.dispose()
})

test('a prompt given in pieces leaves the same cache as one given whole', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  const { prompt, logits } = golden.expected.decode.prefix[0] as GoldenDecode
  session.seed(0, goldenPast)
  await session.extend(0, [prompt.slice(0, 2)])
  await session.extend(0, [prompt.slice(2, 3)])
  const last = await session.extend(0, [prompt.slice(3)])
  assertClose('logits', last, logits.data.slice(0, logits.shape[1]), 1e-5)
  await session.dispose()
})

test('rows that decode and a piece of a prompt share a step, and each is as it would be alone', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  const [a, b] = golden.expected.decode.prefix as [GoldenDecode, GoldenDecode]
  const width = a.logits.shape[1] as number
  for (const row of [0, 1, 2]) session.seed(row, goldenPast)
  await session.extend(0, [a.prompt, b.prompt])
  const parts = [
    { start: 0, tokens: [[a.ids[0] as number], [b.ids[0] as number]] },
    { start: 2, tokens: [a.prompt] },
  ]
  const logits = await session.step(parts)
  assertClose('first decoding row', logits.subarray(0, width), a.logits.data.slice(width, 2 * width), 1e-5)
  assertClose('second', logits.subarray(width, 2 * width), b.logits.data.slice(width, 2 * width), 1e-5)
  assertClose('the prompt', logits.subarray(2 * width), a.logits.data.slice(0, width), 1e-5)
  const next = await session.extend(2, [[a.ids[0] as number]])
  assertClose('after the prompt', next, a.logits.data.slice(width, 2 * width), 1e-5)
  await session.dispose()
})

test('a beginning is copied in two parts, and cut off in its own row', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  const { prompt, logits } = golden.expected.decode.prefix[0] as GoldenDecode
  session.seed(3, goldenPast)
  await session.extend(3, [[...prompt, 1, 2]])
  const held = goldenPast.length + prompt.length - 1
  session.copy(3, 0, 0, goldenPast.length)
  session.copy(3, 0, goldenPast.length, held)
  session.copy(3, 3, held, held)
  for (const row of [0, 3]) {
    const last = await session.extend(row, [prompt.slice(-1)])
    assertClose(`row ${row}`, last, logits.data.slice(0, logits.shape[1]), 1e-5)
  }
  await session.dispose()
})

test('a row moved to another place goes on from there', async () => {
  const session = await openSession(`${goldenFolder}/model`)
  const { prompt, ids, logits } = golden.expected.decode.prefix[0] as GoldenDecode
  session.seed(3, goldenPast)
  await session.extend(3, [prompt])
  session.copy(3, 0, 0, session.lengths[3] as number)
  const next = await session.extend(0, [[ids[0] as number]])
  const width = logits.shape[1] as number
  assertClose('logits', next, logits.data.slice(width, 2 * width), 1e-5)
  await session.dispose()
})

for (const [name, expected] of [
  ['model-shards', golden.expected.logits],
  ['model-float16', golden.roundedLogits.float16],
  ['model-bfloat16', golden.roundedLogits.bfloat16],
] as const) {
  test(`weights are read in place from ${name}`, async () => {
    const session = await openSession(`${goldenFolder}/${name}`)
    const { tokens, rows } = golden.batch
    const width = expected.shape[1] as number
    // The golden logits are those at the target rows; give each row's tokens up to there.
    for (const [i, row] of rows.entries()) {
      const length = tokens.shape[1] as number
      const b = Math.floor(row / length)
      session.seed(0, goldenPast)
      const logits = await session.extend(0, [tokens.data.slice(b * length, row + 1)])
      assertClose(`logits of row ${i}`, logits, expected.data.slice(i * width, (i + 1) * width), 1e-5)
    }
    await session.dispose()
  })
}

test('the cache grows for a long row and shrinks when it has left, and rows that stay are not disturbed', async () => {
  const session = await openSession('model')
  const short = [5, 6, 7]
  const long = Array.from({ length: 200 }, (_, i) => 1 + (i % 50))
  session.seed(0, null)
  const alone: Float32Array[] = []
  for (const token of short) alone.push((await session.extend(0, [[token]])).slice())

  session.seed(0, null)
  session.seed(1, null)
  await session.extend(0, [[short[0] as number], long])
  const beside = (await session.extend(0, [[short[1] as number]])).slice()
  session.release([1])
  const after = (await session.extend(0, [[short[2] as number]])).slice()
  assertClose('beside a long row', beside, alone[1] as Float32Array, 1e-5)
  assertClose('after it left', after, alone[2] as Float32Array, 1e-5)
  await session.dispose()
})

// The KV cache on the GPU: whatever happens to rows, they say what they say on the CPU.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../../src/model/model.ts'
import { Random } from '../../../src/random/random.ts'
import { createOnnxRuntime } from '../../../src/runtime/onnx/onnx.ts'
import type { DecodeSession } from '../../../src/runtime/runtime.ts'
import { randomChange, randomParts } from '../random-rows.ts'
import { testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu
const seed = Number(process.env['SEED'] ?? 53)
const model = await openModel('test/golden/gpt2/model')
const { positionsMax } = model.config
const rowsMax = 6

test('whatever happens to rows between steps, the logits are those of the CPU', { skip }, async () => {
  const random = new Random(seed)
  const sessions: DecodeSession[] = []
  for (const runtime of [createOnnxRuntime({ threads: 1 }), await testWebgpu.open()])
    sessions.push(
      await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, { ...model.config, rowsMax }),
    )
  const [host, device] = sessions as [DecodeSession, DecodeSession]
  for (let round = 0; round < 40; round++) {
    // Several, so that some of them take from rows that others have just written.
    for (let i = 0; i < 3; i++) {
      const change = randomChange(random, host)
      for (const session of sessions) change(session)
    }
    const parts = randomParts(random, device)
    const expected = (await host.step(parts)).slice()
    const actual = await device.step(parts)
    assert.equal(actual.length, expected.length)
    const unlike = expected.findIndex((logit, i) => !(Math.abs(logit - (actual[i] as number)) < 1e-4))
    assert.equal(unlike, -1, `SEED=${seed}, round ${round}: ${actual[unlike]}, not ${expected[unlike]}`)
    assert.deepEqual(device.lengths, host.lengths)
  }
  for (const session of sessions) await session.dispose()
})

test('the cache grows for a long row and shrinks when it has left, and rows that stay are not disturbed', {
  skip,
}, async () => {
  const runtime = await testWebgpu.open()
  const longer = { ...model.config, rowsMax: 2, positionsMax }
  const session = await runtime.openSession(model.forwardGraph(), model.weights, longer)
  const tokens = Array.from({ length: 40 }, (_, i) => 1 + (i % 50))
  session.seed(0, null)
  const alone: Float32Array[] = []
  for (const token of tokens) alone.push((await session.extend(0, [[token]])).slice())
  session.seed(0, null)
  session.seed(1, null)
  await session.extend(0, [[tokens[0] as number], tokens.slice(0, 39)])
  for (const [i, token] of tokens.slice(1).entries()) {
    const beside = await session.extend(0, [[token]])
    const off = beside.findIndex((logit, j) => !(Math.abs(logit - (alone[i + 1]?.[j] as number)) < 1e-4))
    assert.equal(off, -1, `token ${i + 1}`)
  }
  await session.dispose()
})

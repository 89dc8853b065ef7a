// The KV cache on the GPU: whatever happens to rows, they say what they say on the CPU.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../../src/model/model.ts'
import { Random } from '../../../src/random/random.ts'
import { createOnnxRuntime } from '../../../src/runtime/onnx/onnx.ts'
import type { DecodeSession, Past, SessionPart } from '../../../src/runtime/runtime.ts'
import { testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu
const seed = Number(process.env['SEED'] ?? 53)
const model = await openModel('test/golden/gpt2/model')
const { layers, heads, headDim, positionsMax, vocabulary } = model.config
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
    const parts = randomParts(random, host)
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

/** Something that a scheduler does between two steps: a row that has no room left is always started anew. */
function randomChange(random: Random, { lengths }: DecodeSession): (session: DecodeSession) => void {
  const full = lengths.findIndex((length) => length > positionsMax - 8)
  const row = full >= 0 ? full : random.below(rowsMax)
  const other = random.below(rowsMax)
  const held = lengths[other] as number
  if (full >= 0 || random.below(4) === 0) {
    const past = random.below(2) === 0 ? null : randomPast(random, 1 + random.below(14))
    return (session) => session.seed(row, past)
  }
  if (random.below(3) > 1 || held > positionsMax - 8) return () => {}
  const until = random.below(held + 1)
  return (session) => session.copy(other, row, other === row ? until : 0, until)
}

/** One or two runs of rows, the first with a token each. */
function randomParts(random: Random, { lengths }: DecodeSession): SessionPart[] {
  const tokens = (count: number): number[] => Array.from({ length: count }, () => random.below(vocabulary))
  const split = 1 + random.below(rowsMax)
  const end = split + random.below(rowsMax - split + 1)
  const decode = { start: 0, tokens: Array.from({ length: split }, () => tokens(1)) }
  const room = Math.max(1, Math.min(6, positionsMax - Math.max(...lengths)))
  const prefill = { start: split, tokens: Array.from({ length: end - split }, () => tokens(1 + random.below(room))) }
  return prefill.tokens.length === 0 ? [decode] : [decode, prefill]
}

function randomPast(random: Random, length: number): Past {
  const numbers = (): Float32Array =>
    Float32Array.from({ length: layers * heads * length * headDim }, () => random.normal())
  return { keys: numbers(), values: numbers(), length }
}

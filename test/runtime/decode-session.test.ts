// The KV cache of the onnx runtime: rows that are kept apart as long ones say what they would say otherwise.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { Random } from '../../src/random/random.ts'
import { OnnxDecodeSession } from '../../src/runtime/onnx/decode-session.ts'
import { keysByPosition } from '../../src/runtime/onnx/keys-by-position.ts'
import { lower } from '../../src/runtime/onnx/lower.ts'
import { OnnxProgram } from '../../src/runtime/onnx/program.ts'
import { randomChange, randomParts } from './random-rows.ts'

const seed = Number(process.env['SEED'] ?? 53)
const model = await openModel('test/golden/gpt2/model')
const { positionsMax } = model.config
const rowsMax = 6

/** `shortMax` positions are not long. */
async function open(segments: number, shortMax: number): Promise<OnnxDecodeSession> {
  const forward = model.forwardGraph(segments)
  const bytes = lower(keysByPosition(forward), model.weights)
  const program = await OnnxProgram.open(bytes, model.weights.folder, { threads: 1, packed: false })
  return new OnnxDecodeSession(program, forward, { ...model.config, rowsMax }, { shortMax })
}

for (const segments of [2, 3]) {
  test(`whatever happens to rows, long or not, ${segments} segments say what one cache for all says`, async () => {
    const random = new Random(seed)
    const sessions = await Promise.all([open(segments, positionsMax), open(segments, 9)])
    const [whole] = sessions
    for (let round = 0; round < 120; round++) {
      const change = randomChange(random, whole)
      for (const session of sessions) change(session)
      const parts = randomParts(random, whole)
      const [expected, actual] = (await Promise.all(sessions.map((each) => each.step(parts)))) as [
        Float32Array,
        Float32Array,
      ]
      assert.equal(actual.length, expected.length)
      const unlike = expected.findIndex((logit, i) => !(Math.abs(logit - (actual[i] as number)) < 1e-4))
      assert.equal(unlike, -1, `SEED=${seed}, round ${round}: ${actual[unlike]}, not ${expected[unlike]}`)
      assert.deepEqual(sessions[1]?.lengths, whole.lengths)
    }
    await Promise.all(sessions.map((each) => each.dispose()))
  })
}

test('what comes after every one of some tokens is what comes after each alone, also beside a prompt', async () => {
  const random = new Random(seed)
  const session = await open(2, 9)
  const { vocabulary } = session
  const tokens = (count: number): number[] => Array.from({ length: count }, () => random.below(vocabulary))
  const drafted = [tokens(3), tokens(1), tokens(5)]
  const prompt = tokens(4)
  for (let row = 0; row < 4; row++) session.seed(row, null)
  const parts = [
    { start: 0, tokens: drafted, every: true },
    { start: 3, tokens: [prompt] },
  ]
  const together = (await session.step(parts)).slice()
  const alone: Float32Array[] = []
  for (const [row, fed] of [...drafted, prompt].entries()) {
    session.seed(row, null)
    for (const [t, token] of fed.entries()) {
      const logits = await session.step([{ start: row, tokens: [[token]] }])
      if (row < 3 || t === fed.length - 1) alone.push(logits.slice())
    }
  }
  assert.equal(together.length, alone.length * vocabulary)
  const unlike = alone.findIndex((logits, i) =>
    logits.some((logit, v) => !(Math.abs(logit - (together[i * vocabulary + v] as number)) < 1e-4)),
  )
  assert.equal(unlike, -1, `SEED=${seed}`)
  await session.dispose()
})

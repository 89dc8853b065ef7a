// The KV cache of the onnx runtime: rows that are kept apart as long ones say what they would say otherwise.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { Random } from '../../src/random/random.ts'
import { OnnxDecodeSession } from '../../src/runtime/onnx/decode-session.ts'
import { keysByPosition } from '../../src/runtime/onnx/keys-by-position.ts'
import { lower } from '../../src/runtime/onnx/lower.ts'
import { OnnxProgram } from '../../src/runtime/onnx/program.ts'
import type { Past, SessionPart } from '../../src/runtime/runtime.ts'

const seed = Number(process.env['SEED'] ?? 53)
const model = await openModel('test/golden/gpt2/model')
const { layers, heads, headDim, positionsMax, vocabulary } = model.config
const rowsMax = 6

/** `shortMax` positions are not long. */
async function open(segments: number, shortMax: number): Promise<OnnxDecodeSession> {
  const forward = model.forwardGraph(segments)
  const bytes = lower(keysByPosition(forward), model.weights)
  const program = await OnnxProgram.open(bytes, model.weights.folder, { threads: 1, packed: false })
  return new OnnxDecodeSession(program, forward, { ...model.config, rowsMax }, null, shortMax)
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

/** Something that a scheduler does between two steps: a row that has no room left is always started anew. */
function randomChange(random: Random, { lengths }: OnnxDecodeSession): (session: OnnxDecodeSession) => void {
  const full = lengths.findIndex((length) => length > positionsMax - 8)
  const row = full >= 0 ? full : random.below(rowsMax)
  const other = random.below(rowsMax)
  const held = lengths[other] as number
  if (full >= 0 || random.below(4) === 0) {
    const past = random.below(2) === 0 ? null : randomPast(random, 1 + random.below(14))
    return (session) => session.seed(row, past)
  }
  if (random.below(3) > 0 || held > positionsMax - 8) return () => {}
  const until = random.below(held + 1)
  return (session) => session.copy(other, row, other === row ? until : 0, until)
}

/** One or two runs of rows, the first with a token each. */
function randomParts(random: Random, { lengths }: OnnxDecodeSession): SessionPart[] {
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

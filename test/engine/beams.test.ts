// Beam search through the engine: rows that fork, swap and leave, beside other requests, against `generate` of transformers.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import { type DoneEvent, type GenerateRequest, greedy } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { golden, type GoldenBeams } from '../golden/decoding.ts'
import { goldenFolder } from '../golden/gpt2.ts'

const model = await openModel(`${goldenFolder}/model`)
const runtime = createOnnxRuntime({ threads: 1 })
const layout = { ...model.config, rowsMax: 13 }
const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout)
const { endOfText } = golden

/** A text is the numbers of its tokens. */
const tokenizer: Tokenizer = {
  vocabulary: session.vocabulary,
  endOfText,
  sha256: 'b'.repeat(64),
  special: new Map(),
  encode: (text) => (text.match(/\d+/g) ?? []).map(Number),
  decode: (tokens) =>
    tokens
      .filter((token) => token !== endOfText)
      .map((token) => `${token} `)
      .join(''),
}
const loadPrefix = (): Promise<never> => Promise.reject(new Error('no prefix is named'))
const engine = new Engine({ session, tokenizer, loadPrefix, limits: defaultLimits })
after(async () => {
  await engine.close()
  await session.dispose()
})

async function generate(inputs: readonly string[], changes: Partial<GenerateRequest>): Promise<DoneEvent> {
  const base = {
    prefixId: null,
    template: '{input}',
    maxNewTokens: 8,
    stop: [],
    seed: 1,
    decoding: greedy,
    logprobs: false,
  }
  for await (const event of engine.generate({ ...base, inputs, ...changes }, new AbortController().signal))
    if (event.type === 'done') return event
  return assert.fail('no end')
}

const inputOf = ({ prompt }: GoldenBeams): string => prompt.join(' ')
const textOf = (tokens: readonly number[]): string => tokenizer.decode(tokens)

test('all golden searches at once, with greedy texts between them, end as each does in transformers', async () => {
  const alone = await generate(['5 6 7'], {})
  const searches = golden.beams.map(async (one) => {
    const { decoding, minNewTokens, maxNewTokens } = one
    const n = decoding.beams
    const asked = {
      decoding: { ...greedy, ...decoding, n, bestOf: n, strategy: 'beam' as const },
      minNewTokens,
      maxNewTokens,
    }
    return { one, done: await generate([inputOf(one)], asked) }
  })
  const others = golden.beams.map(() => generate(['5 6 7'], {}))
  for (const { one, done } of await Promise.all(searches)) {
    assert.deepEqual(
      done.outputs.map(({ text }) => text),
      one.tokens.map(textOf),
      JSON.stringify(one.decoding),
    )
    assert.deepEqual(
      done.outputs.map(({ tokens }) => tokens),
      one.tokens.map(({ length }) => length),
    )
  }
  for (const other of others) assert.deepEqual((await other).outputs, alone.outputs)
  assert.deepEqual(engine.load, { waiting: 0, running: 0 })
})

test('several inputs make one search each, and a stop text ends a beam and is cut off', async () => {
  const decoding = { ...greedy, strategy: 'beam' as const, beams: 3, n: 2, bestOf: 2 }
  const [a, b] = [await generate(['5 6 7'], { decoding }), await generate(['9 8'], { decoding })]
  const both = await generate(['5 6 7', '9 8'], { decoding })
  assert.deepEqual(both.outputs, [...a.outputs, ...b.outputs])
  // Each step of a search makes a token for each beam.
  assert.equal(both.usage.outputTokens, a.usage.outputTokens + b.usage.outputTokens)
  assert.equal(a.usage.outputTokens % decoding.beams, 0)

  const stop = (a.outputs[0]?.text ?? '').trim().split(' ')[2] ?? assert.fail('a longer text was expected')
  const stopped = await generate(['5 6 7'], { decoding, stop: [` ${stop} `] })
  for (const { text } of stopped.outputs) assert.ok(!text.includes(` ${stop} `), text)
})

test('a client that leaves in the middle of a search gives all its rows back', async () => {
  const decoding = { ...greedy, strategy: 'beam' as const, beams: 6 }
  const leaving = new AbortController()
  const request = { prefixId: null, inputs: ['5 6 7'], template: '{input}', maxNewTokens: 20, stop: [], seed: 1 }
  const events = engine.generate({ ...request, decoding, logprobs: false }, leaving.signal)
  const first = events.next()
  while (engine.load.running < 6) await new Promise((resolve) => setImmediate(resolve))
  leaving.abort()
  await assert.rejects(first, { code: 'cancelled' })
  const { outputs } = await generate(['5 6 7'], {})
  assert.equal(outputs.length, 1)
  assert.deepEqual(engine.load, { waiting: 0, running: 0 })
})

test('more beams than the engine has rows are refused with both numbers, and so are scores of tokens', async () => {
  const decoding = { ...greedy, strategy: 'beam' as const }
  await assert.rejects(generate(['5'], { decoding: { ...decoding, beams: 14 } }), {
    code: 'invalid_request',
    message: /decoding\.beams is 14, and the engine has 13 rows/,
  })
  await assert.rejects(generate(['5'], { decoding, logprobs: true }), { code: 'invalid_request', message: /logprobs/ })
})

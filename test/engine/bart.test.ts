// BART through the engine: every golden text at once, with and without prefixes, greedy and by beams, as `generate` of transformers.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { Engine } from '../../src/engine/engine.ts'
import { greedy } from '../../src/engine/request.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { bartGolden as golden } from '../golden/bart.ts'
import { bartEngine, generate, generateGolden, inputOf, openBartSession, textOf } from './bart-engine.ts'

const session = await openBartSession(createOnnxRuntime({ threads: 1 }), 15)
const engines = new Map([true, false].map((forced) => [forced, bartEngine(session, forced)]))
after(async () => {
  for (const engine of engines.values()) await engine.close()
  await session.dispose()
})

for (const forced of [true, false]) {
  test(`${forced ? 'with forced tokens' : 'with none forced'}, all golden texts and searches at once are those of transformers`, async () => {
    const engine = engines.get(forced) as Engine
    for (const { what, row, done } of await generateGolden(engine, forced)) {
      const texts = done.outputs.map(({ text }) => text)
      assert.deepEqual(texts, row.tokens.map(textOf), what)
      const counts = done.outputs.map(({ tokens }) => tokens)
      assert.deepEqual(
        counts,
        row.tokens.map(({ length }) => length),
        what,
      )
      assert.equal(done.usage.inputTokens, row.source.length)
      assert.equal(done.usage.prefixTokens, row.prefix ? golden.prefixLength : 0)
    }
    assert.deepEqual(engine.load, { waiting: 0, running: 0 })
  })
}

test('several texts of one input read its source once, and samples are the same alone and together', async () => {
  const engine = bartEngine(session, false)
  const inputs = golden.batch.sources.map((source) => inputOf({ source }))
  const decoding = { ...greedy, strategy: 'sample' as const, temperature: 1.5, n: 3, bestOf: 3 }
  const asked = { decoding, prefixId: 'all', maxNewTokens: 6, seed: 11 }
  const together = await generate(engine, { inputs, ...asked })
  const first = await generate(engine, { inputs: inputs.slice(0, 1), ...asked })
  assert.deepEqual(first.outputs, together.outputs.slice(0, 3))
  assert.ok(new Set(together.outputs.map(({ text }) => text)).size > 3)
  await engine.close()
})

test('inputs with one prefix and sources of their own do not make one with another prefix wait for all of them', async () => {
  const narrow = await openBartSession(createOnnxRuntime({ threads: 1 }), 2)
  const engine = bartEngine(narrow, false)
  const length = { maxNewTokens: 8, minNewTokens: 8 }
  let ended = 0
  const many = Array.from({ length: 24 }, async (_, i) => {
    await generate(engine, { inputs: [`5 ${10 + i}`], ...length })
    ended++
  })
  await many[0]
  await generate(engine, { inputs: ['5 6'], prefixId: 'all', ...length })
  // It has the first row that is free once it is there, so the most of them come after it.
  assert.ok(ended < many.length / 2, `${ended} of ${many.length} ended before it`)
  await Promise.all(many)
  await engine.close()
  await narrow.dispose()
})

test('a source that the encoder cannot read, texts without room, and prefixes for other places are refused with both sides', async () => {
  const engine = engines.get(true) as Engine
  const long = Array.from({ length: 63 }, () => 5).join(' ')
  await assert.rejects(generate(engine, { inputs: [long] }), {
    code: 'input_too_long',
    message: "input 0 comes to 65 tokens, and the model's encoder reads 64",
  })
  await generate(engine, { inputs: [long.slice(2)] })
  await assert.rejects(generate(engine, { inputs: ['5'], prefixId: 'all', maxNewTokens: 59 }), {
    code: 'input_too_long',
    message: /needs 65 positions \(prefix 5 \+ prompt 1 \+ maxNewTokens 59\), and the model has 64/,
  })
  await assert.rejects(generate(engine, { inputs: ['5'], prefixId: 'longer' }), {
    code: 'prefix_model_mismatch',
    message: /prefix longer is for 7 layers/,
  })
})

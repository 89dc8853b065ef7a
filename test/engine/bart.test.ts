// BART through the engine: every golden text at once, with and without prefixes, greedy and by beams, as `generate` of transformers.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { defaultLimits, Engine } from '../../src/engine/engine.ts'
import { layoutFor } from '../../src/engine/played.ts'
import { type GenerateEvent, type GenerateRequest, greedy } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { bartFolder, bartGolden as golden, type GoldenText } from '../golden/bart.ts'

const model = await openModel(`${bartFolder}/model`)
const runtime = createOnnxRuntime({ threads: 1 })
const layout = layoutFor(model, 15, model.config.positionsMax)
const forward = model.forwardGraph(runtime.segments)
const session = await runtime.openSession(forward, model.weights, layout, 'float32', model.sourceGraph())
const [begin, end] = [0, 2]
const special = new Map([
  [begin, '<s>'],
  [1, '<pad>'],
  [end, '</s>'],
])

/** A text is the numbers of its tokens. */
const tokenizer: Tokenizer = {
  vocabulary: session.vocabulary,
  endOfText: end,
  special,
  sha256: 'b'.repeat(64),
  encode: (text) => (text.match(/\d+/g) ?? []).map(Number),
  decode: (tokens) =>
    tokens
      .filter((token) => !special.has(token))
      .map((token) => `${token} `)
      .join(''),
}

const { prefixLength } = golden
const { heads, headDim } = model.config
const prefix: Prefix = {
  header: {
    attachment: 'decoder_self',
    places: model.places,
    textPositionStart: 0,
    prefixLength,
    layers: golden.prefix.keys.shape[0] as number,
    heads,
    headDim,
    modelSha256: model.sha256,
    tokenizerSha256: tokenizer.sha256,
    template: '{input}',
    training: {},
  },
  keys: Float32Array.from(golden.prefix.keys.data),
  values: Float32Array.from(golden.prefix.values.data),
}
const stored: Record<string, Prefix> = {
  all: prefix,
  longer: { ...prefix, header: { ...prefix.header, places: [{ attachment: 'decoder_self', layers: 7 }] } },
}
const loadPrefix = async (id: string): Promise<Prefix> => stored[id] ?? assert.fail(id)

function engineWith(forced: boolean): Engine {
  const framing = forced ? model.framing : { ...model.framing, forcedFirst: null, forcedLast: null }
  return new Engine({ session, tokenizer, loadPrefix, model: { ...model, framing }, limits: defaultLimits })
}
const engines = new Map([true, false].map((forced) => [forced, engineWith(forced)]))
after(async () => {
  for (const engine of engines.values()) await engine.close()
  await session.dispose()
})

type Done = Extract<GenerateEvent, { type: 'done' }>
const base = { prefixId: null, maxNewTokens: 8, stop: [], seed: 1, decoding: greedy, logprobs: false }

async function generate(
  engine: Engine,
  request: Partial<GenerateRequest> & Pick<GenerateRequest, 'inputs'>,
): Promise<Done> {
  for await (const event of engine.generate({ ...base, ...request }, new AbortController().signal))
    if (event.type === 'done') return event
  return assert.fail('no end')
}

/** Without begin and end, which the model's framing puts around it. */
const inputOf = ({ source }: Pick<GoldenText, 'source'>): string => source.slice(1, -1).join(' ')
const textOf = (tokens: readonly number[]): string => tokenizer.decode(tokens)

for (const forced of [true, false]) {
  test(`${forced ? 'with forced tokens' : 'with none forced'}, all golden texts and searches at once are those of transformers`, async () => {
    const engine = engines.get(forced) as Engine
    const cases = golden.generations.filter((each) => each.forced === forced)
    const all = cases.flatMap(({ decoding: { minNewTokens = 0, ...changes }, maxNewTokens, rows }) =>
      rows.map(async (row) => {
        const n = changes.strategy === 'beam' ? (changes.beams as number) : 1
        const decoding = { ...greedy, ...changes, n, bestOf: n }
        const prefixId = row.prefix ? 'all' : null
        const done = await generate(engine, { inputs: [inputOf(row)], prefixId, decoding, minNewTokens, maxNewTokens })
        return { row, decoding, done }
      }),
    )
    for (const { row, decoding, done } of await Promise.all(all)) {
      const what = JSON.stringify({ ...decoding, ...row })
      const texts = done.outputs.map(({ text }) => text)
      assert.deepEqual(texts, row.tokens.map(textOf), what)
      const counts = done.outputs.map(({ tokens }) => tokens)
      assert.deepEqual(
        counts,
        row.tokens.map(({ length }) => length),
        what,
      )
      assert.equal(done.usage.inputTokens, row.source.length)
      assert.equal(done.usage.prefixTokens, row.prefix ? prefixLength : 0)
    }
    assert.deepEqual(engine.load, { waiting: 0, running: 0 })
  })
}

test('several texts of one input read its source once, and samples are the same alone and together', async () => {
  const engine = engineWith(false)
  const inputs = golden.batch.sources.map((source) => inputOf({ source }))
  const decoding = { ...greedy, strategy: 'sample' as const, temperature: 1.5, n: 3, bestOf: 3 }
  const asked = { decoding, prefixId: 'all', maxNewTokens: 6, seed: 11 }
  const together = await generate(engine, { inputs, ...asked })
  const first = await generate(engine, { inputs: inputs.slice(0, 1), ...asked })
  assert.deepEqual(first.outputs, together.outputs.slice(0, 3))
  assert.ok(new Set(together.outputs.map(({ text }) => text)).size > 3)
  await engine.close()
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

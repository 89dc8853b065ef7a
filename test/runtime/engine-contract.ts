// A generation through the engine, which does not know what it runs on: a device says what the CPU says, whoever chooses the tokens.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import { greedy, type Decoding, type GenerateRequest } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { DecodeSession, Runtime } from '../../src/runtime/runtime.ts'
import { bartEngine, generate, generateGolden, openBartSession, textOf } from '../engine/bart-engine.ts'
import { golden, goldenFolder } from '../golden/gpt2.ts'
import { letterTokenizer } from '../train/tiny.ts'

const prompts = ['a', 'hello there', 'The Bell is an inn', 'x y z', 'one two three', '?']

async function texts(runtime: Runtime, decoding: Decoding, maxNewTokens: number): Promise<Texts> {
  const model = await openModel(`${goldenFolder}/model`)
  const { layers, heads, headDim } = model.config
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, {
    ...model.config,
    rowsMax: 3,
  })
  const fetched = countLogits(session)
  const { prefixLength } = golden
  const belongs = { modelSha256: model.sha256, tokenizerSha256: letterTokenizer.sha256 }
  const shape = { prefixLength, textPositionStart: prefixLength, layers, heads, headDim }
  const prefix: Prefix = {
    header: { attachment: 'decoder_self', ...shape, ...belongs, template: '{input}', training: {} },
    keys: Float32Array.from(golden.prefix['keys']!.data),
    values: Float32Array.from(golden.prefix['values']!.data),
  }
  const engine = new Engine({
    session,
    tokenizer: letterTokenizer,
    loadPrefix: async () => prefix,
    limits: defaultLimits,
  })
  const textOfInput = async (input: string, i: number): Promise<string> => {
    const request: GenerateRequest = {
      prefixId: i % 2 === 0 ? 'p' : null,
      inputs: [input],
      maxNewTokens,
      stop: [],
      seed: 1,
      decoding,
      logprobs: false,
    }
    for await (const event of engine.generate(request, new AbortController().signal))
      if (event.type === 'done') return event.outputs[0]!.text
    return assert.fail('no end')
  }
  const all = await Promise.all(prompts.map(textOfInput))
  await engine.close()
  await session.dispose()
  return { all, logits: fetched() }
}

interface Texts {
  readonly all: readonly string[]
  /** Rows whose logits came to the host. */
  readonly logits: number
}

function countLogits(session: DecodeSession): () => number {
  let logits = 0
  const choose = session.choose?.bind(session)
  if (choose !== undefined)
    session.choose = async (...asked) => {
      const outcomes = await choose(...asked)
      logits += outcomes.filter((outcome) => outcome instanceof Float32Array).length
      return outcomes
    }
  return () => logits
}

interface Device {
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: () => Runtime | Promise<Runtime>
  readonly maxNewTokens: number
  /** Whether it tells what a search, other filters and forced tokens need. */
  readonly tellsAll: boolean
  /** Of each golden generation of the BART: some with the prefix, some without. */
  readonly bartRows: readonly number[]
}

const penalized: Decoding = {
  ...greedy,
  strategy: 'sample',
  topK: 30,
  repetitionPenalty: 1.3,
  presencePenalty: 0.4,
  noRepeatNgramSize: 2,
  logitBias: { '5': -3 },
}

export function testTexts({ skip, open, maxNewTokens, tellsAll, bartRows }: Device): void {
  let opened: Runtime | Promise<Runtime> | null = null
  for (const [what, decoding] of [
    ['greedy', greedy],
    ['sampled', { ...greedy, strategy: 'sample', temperature: 0.9, topK: 40, topP: 0.95 }],
    ['penalized', penalized],
    ['beam', { ...greedy, strategy: 'beam', beams: 3 }],
  ] as const) {
    test(`six requests, with a prefix and without, get the same ${what} text from the device as from the CPU`, {
      skip,
    }, async () => {
      const runtime = await (opened ??= open())
      const { all: device, logits } = await texts(runtime, decoding, maxNewTokens)
      assert.deepEqual(device, (await texts(createOnnxRuntime({ threads: 1 }), decoding, maxNewTokens)).all)
      assert.ok(new Set(device).size > 3, `the texts differ: ${device}`)
      if (tellsAll || what !== 'beam') assert.equal(logits, 0, 'the device chooses, whatever the rules')
    })
  }

  test('a BART has the golden texts of transformers on the device, greedy and by beams, under penalties', {
    skip,
  }, async () => {
    const session = await openBartSession(await (opened ??= open()), 15)
    const fetched = countLogits(session)
    const engine = bartEngine(session, true)
    const texts = await generateGolden(engine, true, bartRows)
    for (const { what, row, done } of texts)
      assert.deepEqual(
        done.outputs.map(({ text }) => text),
        row.tokens.map(textOf),
        what,
      )
    assert.equal(texts.length, 5 * bartRows.length)
    if (tellsAll) assert.equal(fetched(), 0, 'no search needs logits')
    await engine.close()
    await session.dispose()
  })

  test('samples of a BART, plain and penalized, with a prefix and without, are those of the CPU', {
    skip,
  }, async () => {
    const answers: string[][] = []
    for (const runtime of [await (opened ??= open()), createOnnxRuntime({ threads: 1 })]) {
      const session = await openBartSession(runtime, 4)
      const engine = bartEngine(session, false)
      const sampled = { ...greedy, strategy: 'sample' as const, temperature: 1.3, topK: 20, n: 2, bestOf: 2 }
      const inputs = ['5 6 7 8 9', '11 12']
      const done = await Promise.all([
        generate(engine, { inputs, decoding: sampled, prefixId: 'all', seed: 4 }),
        generate(engine, { inputs, decoding: { ...penalized, ...sampled }, seed: 5 }),
      ])
      answers.push(done.flatMap(({ outputs }) => outputs.map(({ text }) => text)))
      await engine.close()
      await session.dispose()
    }
    assert.deepEqual(answers[0], answers[1])
    assert.ok(new Set(answers[0]).size > 4, `the texts differ: ${answers[0]}`)
  })
}

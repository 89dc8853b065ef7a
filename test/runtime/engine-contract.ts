// A generation through the engine, which does not know what it runs on: a device says what the CPU says, whoever chooses the tokens.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultLimits, Engine } from '../../src/engine/engine.ts'
import { greedy, type Decoding, type GenerateRequest } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import { golden, goldenFolder } from '../golden/gpt2.ts'
import { letterTokenizer } from '../train/tiny.ts'

const prompts = ['a', 'hello there', 'The Bell is an inn', 'x y z', 'one two three', '?']

async function texts(runtime: Runtime, decoding: Decoding, maxNewTokens: number): Promise<string[]> {
  const model = await openModel(`${goldenFolder}/model`)
  const { layers, heads, headDim } = model.config
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, {
    ...model.config,
    rowsMax: 3,
  })
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
  const generate = async (input: string, i: number): Promise<string> => {
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
  const all = await Promise.all(prompts.map(generate))
  await engine.close()
  await session.dispose()
  return all
}

interface Device {
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: () => Runtime | Promise<Runtime>
  readonly maxNewTokens: number
}

export function testTexts({ skip, open, maxNewTokens }: Device): void {
  for (const [what, decoding] of [
    ['greedy', greedy],
    ['sampled', { ...greedy, strategy: 'sample', temperature: 0.9, topK: 40, topP: 0.95 }],
    ['penalized', { ...greedy, strategy: 'sample', repetitionPenalty: 1.3 }],
    ['beam', { ...greedy, strategy: 'beam', beams: 3 }],
  ] as const) {
    test(`six requests, with a prefix and without, get the same ${what} text from the device as from the CPU`, {
      skip,
    }, async () => {
      const [device, host] = [
        await texts(await open(), decoding, maxNewTokens),
        await texts(createOnnxRuntime({ threads: 1 }), decoding, maxNewTokens),
      ]
      assert.deepEqual(device, host)
      assert.ok(new Set(device).size > 3, `the texts differ: ${device}`)
    })
  }
}

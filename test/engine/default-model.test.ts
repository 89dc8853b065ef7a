// The engine on the real default model: what a request says is the same alone and among others with other prefixes.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, test } from 'node:test'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import { type GenerateRequest, greedy, type Output } from '../../src/engine/request.ts'
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { Random } from '../../src/random/random.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { partsMax } from '../../src/runtime/runtime.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'

const model = await openModel('model')
const tokenizer = await openTokenizer('model')
const { layers, heads, headDim } = model.config
const session = await createOnnxRuntime({ threads: 2 }).openSession(model.forwardGraph(partsMax), model.weights, {
  ...model.config,
  rowsMax: 8,
})
after(() => session.dispose())

/** Prefixes of different lengths, each from the seed of its number. */
const loadPrefix = async (prefixId: string): Promise<Prefix> => {
  const number = Number(prefixId.replace('p', ''))
  const random = new Random(number)
  const prefixLength = 2 + number
  const draw = (): Float32Array =>
    Float32Array.from({ length: layers * heads * prefixLength * headDim }, () => 0.5 * random.normal())
  const belongs = { modelSha256: model.sha256, tokenizerSha256: tokenizer.sha256 }
  const shape = { prefixLength, textPositionStart: prefixLength, layers, heads, headDim }
  return {
    header: { attachment: 'decoder_self', ...shape, ...belongs, template: ' {input} <|endoftext|>', training: {} },
    keys: draw(),
    values: draw(),
  }
}
const engine = new Engine({ session, tokenizer, loadPrefix, limits: defaultLimits })

const lines = (await readFile('examples/e2e/heldout.jsonl', 'utf8')).trim().split('\n')
const inputs = lines.slice(0, 8).map((line) => (JSON.parse(line) as { input: string }).input)

async function generate(input: string, prefixId: string | null, sample: boolean): Promise<Output> {
  const decoding = sample ? { ...greedy, strategy: 'sample' as const, temperature: 0.8, topK: 20, topP: 0.9 } : greedy
  const request: GenerateRequest = {
    prefixId,
    inputs: [input],
    maxNewTokens: 24,
    stop: [],
    seed: 5,
    decoding,
    logprobs: false,
  }
  for await (const event of engine.generate(request, new AbortController().signal))
    if (event.type === 'done') return event.outputs[0] as Output
  return assert.fail('no end')
}

for (const sample of [false, true]) {
  test(`${sample ? 'sampled' : 'greedy'} output is the same alone and in a batch of 8 with other prefixes`, async () => {
    const prefixes = inputs.map((_, i) => (i === 3 ? null : `p${i}`))
    const alone: Output[] = []
    for (const [i, input] of inputs.entries()) alone.push(await generate(input, prefixes[i] as string | null, sample))
    const together = await Promise.all(inputs.map((input, i) => generate(input, prefixes[i] as string | null, sample)))
    assert.deepEqual(together, alone)
    assert.ok(new Set(alone.map(({ text }) => text)).size > 4, 'the prefixes make a difference')
  })
}

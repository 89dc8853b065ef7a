// Beam search against `generate` of Hugging Face transformers, over the tiny GPT-2, token for token.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { BeamSearch, type BeamOptions } from '../../src/engine/beam-search.ts'
import { rulesOf } from '../../src/engine/logit-rules.ts'
import { greedy } from '../../src/engine/request.ts'
import { Sampler } from '../../src/engine/sampler.ts'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { golden, type GoldenBeams } from '../golden/decoding.ts'
import { goldenFolder } from '../golden/gpt2.ts'

const model = await openModel(`${goldenFolder}/model`)
const rowsMax = Math.max(...golden.beams.map(({ decoding }) => decoding.beams))
const runtime = createOnnxRuntime({ threads: 1 })
const session = await runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax })
const { vocabulary } = session
const sampler = new Sampler(vocabulary)
const { endOfText } = golden
after(() => session.dispose())

for (const [i, one] of golden.beams.entries()) {
  const { decoding, minNewTokens } = one
  test(`search ${i}, ${JSON.stringify({ ...decoding, minNewTokens })}, is that of transformers`, async () => {
    const found = (await runSearch(one)).best(decoding.beams)
    assert.deepEqual(
      found.map(({ tokens }) => tokens),
      one.tokens,
    )
    for (const [place, { score }] of found.entries()) {
      const expected = one.scores[place] as number
      assert.ok(Math.abs(score - expected) <= 1e-4, `text ${place} has the score ${score}, expected ${expected}`)
    }
  })
}

/** Reads every beam anew at each step: what is tested is the search and not the cache. */
async function runSearch({ prompt, decoding, minNewTokens, maxNewTokens }: GoldenBeams): Promise<BeamSearch> {
  const whole = { ...greedy, ...decoding }
  const rules = rulesOf(whole, minNewTokens, { encode: () => [], endOfText, vocabulary })
  const search = new BeamSearch({ ...whole, maxNewTokens, endOfText })
  while (!search.done) {
    const { live } = search
    live.forEach((_, row) => session.seed(row, null))
    const logits = await session.extend(
      0,
      live.map(({ tokens }) => [...prompt, ...tokens]),
    )
    const rows = live.map(({ tokens }, row) => {
      const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary)
      return sampler.beamScores(rules, { prompt, output: tokens }, own, row)
    })
    const before = live.map(({ tokens }) => tokens)
    const step = search.step(rows)
    if (step === null) break
    // The parents named are those whose cache the new beams need.
    const grown = step.tokens.map((token, beam) => [...before[step.parents[beam] as number]!, token])
    assert.deepEqual(
      search.live.map(({ tokens }) => tokens),
      grown,
    )
  }
  return search
}

const options: BeamOptions = { beams: 2, lengthPenalty: 1, earlyStopping: true, maxNewTokens: 9, endOfText: 0 }

test('a text that ends for another reason than end-of-text takes a place like any other', () => {
  const search = new BeamSearch({ ...options, ends: (tokens) => tokens.at(-1) === 1 })
  const step = search.step([Float32Array.of(-9, -0.5, -1, -2)])
  assert.deepEqual(step, { parents: [0, 0], tokens: [2, 3] })
  assert.equal(search.step([Float32Array.of(-9, -0.1, -3, -4), Float32Array.of(-9, -8, -3, -4)]), null)
  const texts = search.best(2)
  assert.deepEqual(
    texts.map(({ tokens }) => tokens),
    [[1], [2, 1]],
  )
  assert.ok(Math.abs((texts[1]?.score ?? 0) - -1.1 / 2) < 1e-6)
})

test('where every other token is forbidden the search answers what it has', () => {
  const search = new BeamSearch({ ...options, maxNewTokens: 1 })
  const row = new Float32Array(5).fill(-Infinity)
  row[3] = 0
  assert.equal(search.step([row]), null)
  assert.deepEqual(search.best(1), [{ tokens: [3], score: 0, ended: true }])
})

// What a request can ask of the choice of tokens, through the engine: best-of, alternatives, minimum length, bans.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DoneEvent, type GenerateEvent, type GenerateRequest, greedy } from '../../src/engine/request.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, request, sampling, serviceError } from './requests.ts'
import { makeEngine } from './setup.ts'

const never = new AbortController().signal
const { endOfText } = byteTokenizer

/** All events of a request to a fresh engine; the last is `done`. */
async function run(changes: Partial<GenerateRequest>): Promise<{ events: GenerateEvent[]; done: DoneEvent }> {
  const events: GenerateEvent[] = []
  for await (const event of makeEngine().engine.generate(request(changes), never)) events.push(event)
  const done = events.at(-1)
  return { events, done: done?.type === 'done' ? done : assert.fail('no end') }
}

test('best-of answers the most probable of the texts that it would make as n, best first, and counts all tokens', async () => {
  const asked = { inputs: ['ab', 'c'], seed: 3, logprobs: true }
  const { done: all } = await run({ ...asked, decoding: { ...sampling, n: 5, bestOf: 5 } })
  const { events, done: best } = await run({ ...asked, decoding: { ...sampling, n: 2, bestOf: 5 } })
  const mean = (logprobs: readonly number[] = []) => logprobs.reduce((sum, each) => sum + each, 0) / logprobs.length
  const expected = [all.outputs.slice(0, 5), all.outputs.slice(5)].flatMap((group) =>
    group.toSorted((a, b) => mean(b.logprobs) - mean(a.logprobs)).slice(0, 2),
  )
  assert.deepEqual(best.outputs, expected)
  assert.deepEqual(best.usage, all.usage)
  assert.equal(events.length, 1, 'nothing is handed out before it is known what is answered')
})

test('best-of without log-probabilities asked for answers none', async () => {
  const { done } = await run({ decoding: { ...sampling, n: 1, bestOf: 3 } })
  assert.deepEqual(Object.keys(done.outputs[0] ?? {}), ['text', 'finishReason', 'tokens'])
})

test('alternatives come for each token, with texts, and the greedy token is the first of them', async () => {
  const { done } = await run({ maxNewTokens: 5, logprobs: true, topLogprobs: 3 })
  const [output] = done.outputs
  const scores = output?.topLogprobs ?? []
  assert.equal(scores.length, output?.tokens)
  assert.deepEqual(
    scores.map(({ logprob }) => logprob),
    output?.logprobs,
  )
  for (const { id, text, logprob, top } of scores) {
    assert.equal(top.length, 3)
    assert.deepEqual(top[0], { id, text, logprob })
    assert.equal(text, id === endOfText ? '<|endoftext|>' : byteTokenizer.decode([id]))
    assert.ok(top.every((each, i) => i === 0 || each.logprob <= (top[i - 1]?.logprob ?? 0)))
  }
})

test('0 alternatives are the tokens made and nothing beside them', async () => {
  const { done } = await run({ maxNewTokens: 2, topLogprobs: 0 })
  assert.deepEqual(
    done.outputs[0]?.topLogprobs?.map(({ top }) => top.length),
    [0, 0],
  )
  assert.equal(done.outputs[0]?.logprobs, undefined)
})

test('end-of-text does not come before the minimum, and may come at once after it', async () => {
  const { engine, session } = makeEngine()
  session.adjust = (logits) => {
    logits[endOfText] = 100
  }
  const { outputs } = await collect(engine.generate(request({ minNewTokens: 5, maxNewTokens: 20 }), never))
  assert.deepEqual([outputs[0]?.finishReason, outputs[0]?.tokens], ['stop', 6])
})

test('a stop text ends a text before the minimum', async () => {
  const { engine, session } = makeEngine()
  session.adjust = (logits) => {
    logits[120] = 100
  }
  const { outputs } = await collect(engine.generate(request({ minNewTokens: 5, stop: ['xx'] }), never))
  assert.deepEqual(outputs[0], { text: '', finishReason: 'stop', tokens: 2 })
})

test('a banned text does not come out, a biased token does', async () => {
  const { done } = await run({ decoding: { ...greedy, logitBias: { 120: 100 } }, maxNewTokens: 4 })
  assert.equal(done.outputs[0]?.text, 'xxxx')
  const decoding = { ...greedy, logitBias: { 120: 100, 121: 50 }, bannedTexts: ['xx'] }
  const { done: banned } = await run({ decoding, maxNewTokens: 4 })
  assert.equal(banned.outputs[0]?.text, 'xyxy')
})

test('more texts than beams are refused with both numbers', async () => {
  const beam = { ...greedy, strategy: 'beam' as const }
  const many = { ...beam, n: 6, bestOf: 6, beams: 5 }
  await assert.rejects(run({ decoding: many }), serviceError('invalid_request', 'decoding.n is 6', 'beams, 5'))
})

// The engine over a made-up session: texts, batches, usage and limits.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Engine } from '../../src/engine/engine.ts'
import { type GenerateRequest, greedy } from '../../src/engine/request.ts'
import type { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { Random } from '../../src/random/random.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { type Collected, collect, request, sampling, serviceError } from './requests.ts'
import { hold, makeEngine, prefixes, settled } from './setup.ts'

const never = new AbortController().signal
const endOfText = byteTokenizer.endOfText

test('greedy and sampled outputs are the same alone and in any batch, with arrivals and leaves', async () => {
  const seed = Number(process.env['SEED'] ?? 31)
  const random = new Random(seed)
  const requests = Array.from({ length: 40 }, (_, i) => randomRequest(random, i))
  const alone: Collected[] = []
  for (const one of requests) alone.push(await collect(makeEngine().engine.generate(one, never)))

  const { engine, session } = makeEngine({ prefillTokensMax: 12 })
  // Requests arrive during steps, and now and then one more that leaves before its end.
  const arrived: Promise<Collected>[] = []
  const strays: Promise<void>[] = []
  session.beforeExtend = () => {
    if (random.next() < 0.3 && arrived.length < requests.length) {
      const { signal } = new AbortController()
      arrived.push(collect(engine.generate(requests[arrived.length] as GenerateRequest, signal)))
    }
    if (random.next() < 0.1 && arrived.length < requests.length) strays.push(leaveEarly(engine, random))
  }
  // The steps of these small ones let the others arrive.
  while (arrived.length < requests.length) await collect(engine.generate(request({ maxNewTokens: 2 }), never))
  const together = await Promise.all(arrived)
  await Promise.all(strays)
  assert.deepEqual(together, alone, `SEED=${seed}`)
  assert.ok(
    session.calls.some(({ length }) => length === fakeLayout.rowsMax),
    'the batch was full at some time',
  )
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
})

test('greedy takes the largest logit each time, from what the prefix and the prompt have put into the row', async () => {
  const { engine } = makeEngine()
  for (const prefixId of ['p1', 'p2']) {
    const session = new FakeSession(257)
    const { header, keys, values } = prefixes[prefixId] as Prefix
    session.seed(0, { keys, values, length: header.prefixLength })
    const tokens: number[] = []
    for (let next = byteTokenizer.encode('ab>'); tokens.length < 6; next = tokens.slice(-1)) {
      const logits = await session.extend(0, [next])
      tokens.push(logits.indexOf(Math.max(...logits)))
    }
    const { outputs } = await collect(engine.generate(request({ prefixId, maxNewTokens: 6 }), never))
    assert.equal(outputs[0]?.text, byteTokenizer.decode(tokens).replace(/^ /, ''))
    assert.ok(!tokens.includes(endOfText), 'the seed of this test was chosen so')
  }
})

test('usage counts the prefix once for each input, the prompt once and every token made', async () => {
  const { engine } = makeEngine()
  const decoding = { ...sampling, n: 3, bestOf: 3 }
  const { outputs, usage } = await collect(
    engine.generate(request({ prefixId: 'p1', inputs: ['ab', 'c'], decoding }), never),
  )
  assert.equal(outputs.length, 6)
  assert.equal(usage.prefixTokens, 6)
  assert.equal(usage.inputTokens, 'ab>'.length + 'c>'.length)
})

test('the bare model gets the default template', async () => {
  const { engine, session } = makeEngine()
  await collect(engine.generate(request({ inputs: ['$& {input}'] }), never))
  assert.deepEqual(session.calls[0], [byteTokenizer.encode(' $& {input} <|endoftext|>')])
})

test('one seed gives one set of samples, all different; no seed gives others', async () => {
  const decoding = { ...sampling, n: 4, bestOf: 4 }
  const run = async (seed: number | null): Promise<string> => {
    const { outputs } = await collect(makeEngine().engine.generate(request({ seed, decoding }), never))
    // Without a seed two of them may well be equal by chance, when both end at once.
    if (seed !== null) assert.equal(new Set(outputs.map(({ text }) => text)).size, 4)
    return JSON.stringify(outputs)
  }
  assert.equal(await run(5), await run(5))
  assert.notEqual(await run(5), await run(6))
  assert.notEqual(await run(null), await run(null))
})

test('end-of-text ends with stop and is counted, the last token allowed with length', async () => {
  const { engine, session } = makeEngine()
  const promptLength = byteTokenizer.encode(' ab <|endoftext|>').length
  session.adjust = (logits, length) => {
    logits[endOfText] = length === promptLength + 3 ? 100 : -100
  }
  const stopped = await collect(engine.generate(request({ maxNewTokens: 20, logprobs: true }), never))
  assert.equal(stopped.outputs[0]?.finishReason, 'stop')
  assert.equal(stopped.outputs[0]?.tokens, 4)
  const long = await collect(engine.generate(request({ maxNewTokens: 2 }), never))
  assert.equal(long.outputs[0]?.finishReason, 'length')
  assert.equal(long.outputs[0]?.tokens, 2)
  assert.equal(long.outputs[0]?.logprobs, undefined)
  // The token of logit 100 among logits of at most 4 is as good as certain.
  assert.equal(stopped.outputs[0]?.logprobs?.length, 4)
  assert.ok(Math.abs(stopped.outputs[0]?.logprobs?.[3] ?? 1) < 1e-6)
  assert.ok((stopped.outputs[0]?.logprobs?.[0] ?? 1) < -0.1)
})

test('a stop text ends the text before it and frees the row at once', async () => {
  const { engine, session } = makeEngine()
  spell(session, ' so END of it')
  const { outputs } = await collect(engine.generate(request({ maxNewTokens: 30, stop: ['END'] }), never))
  assert.deepEqual(outputs, [{ text: 'so ', finishReason: 'stop', tokens: 7 }])
})

test('a long prompt is read in pieces within the budget', async () => {
  const { engine, session } = makeEngine({ prefillTokensMax: 10 })
  await collect(engine.generate(request({ inputs: ['x'.repeat(40)], maxNewTokens: 2 }), never))
  const lengths = session.calls.map((rows) => rows[0]?.length)
  assert.deepEqual(lengths, [10, 10, 10, 10, 3, 1])
})

test('an input that does not fit names all numbers, before any event', async () => {
  const { engine } = makeEngine()
  const long = request({ prefixId: 'p1', inputs: ['a', 'x'.repeat(50)], maxNewTokens: 20 })
  await assert.rejects(
    engine.generate(long, never).next(),
    serviceError('input_too_long', 'input 1', '74', 'prefix 3', 'prompt 51', 'maxNewTokens 20', '64'),
  )
  const just = request({ prefixId: 'p1', inputs: ['x'.repeat(40)], maxNewTokens: 20 })
  assert.equal((await collect(engine.generate(just, never))).outputs.length, 1)
})

test('errors of prefixes reach the caller before any event, and only that caller', async () => {
  const { engine } = makeEngine()
  const good = collect(engine.generate(request({ prefixId: 'p1' }), never))
  const first = (prefixId: string): Promise<unknown> => engine.generate(request({ prefixId }), never).next()
  await assert.rejects(first('gone'), serviceError('prefix_not_found', 'gone'))
  await assert.rejects(
    first('wide'),
    serviceError('prefix_model_mismatch', 'wide', '1 layers × 1 heads × 3', '1 heads × 2'),
  )
  await assert.rejects(first('unshifted'), serviceError('prefix_invalid', 'unshifted', 'position 0', 'position 3'))
  assert.equal((await good).outputs.length, 1)
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
})

test('what is wrong with a request is refused by name', async () => {
  const { engine } = makeEngine()
  const wrong: readonly [Partial<GenerateRequest>, string][] = [
    [{ inputs: [] }, 'inputs'],
    [{ maxNewTokens: 0 }, 'maxNewTokens'],
    [{ stop: [''] }, 'stop'],
    [{ stop: ['\ud83d'] }, 'stop'],
    [{ seed: 0.5 }, 'seed'],
    [{ decoding: { ...greedy, temperature: 0 } }, 'temperature'],
    [{ decoding: { ...greedy, topP: Number.NaN } }, 'topP'],
    [{ decoding: { ...greedy, topK: -1 } }, 'topK'],
    [{ decoding: { ...greedy, repetitionPenalty: 0 } }, 'repetitionPenalty'],
    [{ decoding: { ...greedy, n: 0 } }, 'n is 0'],
    [{ decoding: { ...greedy, minP: 1.5 } }, 'minP'],
    [{ decoding: { ...greedy, typicalP: 0 } }, 'typicalP'],
    [{ decoding: { ...greedy, presencePenalty: Number.NaN } }, 'presencePenalty'],
    [{ decoding: { ...greedy, frequencyPenalty: 1e9 } }, 'frequencyPenalty'],
    [{ decoding: { ...greedy, noRepeatNgramSize: -1 } }, 'noRepeatNgramSize'],
    [{ decoding: { ...greedy, bannedTexts: [''] } }, 'bannedTexts'],
    [{ decoding: { ...greedy, bannedTokens: [[]] } }, 'bannedTokens'],
    [{ decoding: { ...greedy, bannedTokens: [[3, 257]] } }, 'the token 257'],
    [{ decoding: { ...greedy, logitBias: { 300: 1 } } }, 'the token 300'],
    [{ decoding: { ...greedy, logitBias: { 3: 101 } } }, 'logitBias'],
    [{ decoding: { ...sampling, n: 2, bestOf: 1 } }, 'bestOf'],
    [{ decoding: { ...greedy, bestOf: 2 } }, 'bestOf'],
    [{ decoding: { ...greedy, strategy: 'beam', n: 6, bestOf: 6, beams: 5 } }, 'beams, 5'],
    [{ maxNewTokens: 4, minNewTokens: 5 }, 'minNewTokens'],
    [{ topLogprobs: 21 }, 'topLogprobs'],
  ]
  for (const [changes, field] of wrong) {
    await assert.rejects(engine.generate(request(changes), never).next(), serviceError('invalid_request', field))
  }
})

test('a full line refuses a request whole and says when to come again; one that never fits is told so', async () => {
  const { engine, session } = makeEngine({ waitingMax: 6 })
  const gate = hold(session)
  const first = collect(engine.generate(request({ inputs: ['a', 'b', 'c', 'd'] }), never))
  await gate.reached
  const second = collect(engine.generate(request({ inputs: ['e', 'f', 'g', 'h'] }), never))
  await assert.rejects(collect(engine.generate(request({ inputs: ['i', 'j', 'k'] }), never)), (error) => {
    serviceError('overloaded', '4 of 6', 'needs 3')(error)
    assert.equal((error as ServiceError).details['retryAfterSeconds'], 1)
    return true
  })
  const many = request({ decoding: { ...sampling, n: 7, bestOf: 7 } })
  await assert.rejects(collect(engine.generate(many, never)), serviceError('invalid_request', '7', '6'))
  const third = collect(engine.generate(request({ inputs: ['l', 'm'] }), never))
  gate.open()
  assert.deepEqual(
    (await Promise.all([first, second, third])).map(({ outputs }) => outputs.length),
    [4, 4, 2],
  )
})

function randomRequest(random: Random, i: number): GenerateRequest {
  const inputs = Array.from({ length: 1 + random.below(3) }, () => 'abcdefghijklmnop'.slice(0, random.below(16)))
  const n = 1 + random.below(3)
  const decoding = i % 2 === 0 ? greedy : { ...sampling, n, bestOf: n, topK: random.below(2) * 20 }
  const prefixId = [null, 'p1', 'p2'][random.below(3)] ?? null
  return request({ prefixId, inputs, decoding, maxNewTokens: 1 + random.below(20), seed: i, stop: ['q', 'zz'] })
}

/** A request that is given up after an event or two. */
async function leaveEarly(engine: Engine, random: Random): Promise<void> {
  const abort = new AbortController()
  let left = random.below(3)
  try {
    for await (const event of engine.generate(request({ maxNewTokens: 30, seed: 99 }), abort.signal)) {
      assert.ok(event)
      if (left-- === 0) abort.abort()
    }
  } catch (error) {
    serviceError('cancelled')(error)
  }
}

/** Makes the model write `text`, byte by byte, after any prompt, and then end-of-text. */
function spell(session: FakeSession, text: string): void {
  const tokens = [...byteTokenizer.encode(text), endOfText]
  session.adjust = (logits) => {
    logits.fill(-10)
    logits[tokens.shift() ?? endOfText] = 10
  }
}

// Drafts change how many steps a text takes, and nothing else.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { Engine } from '../../src/engine/engine.ts'
import { type EngineLimits, defaultLimits } from '../../src/engine/limits.ts'
import type { Step } from '../../src/engine/observer.ts'
import { type Decoding, type DoneEvent, type GenerateRequest, greedy } from '../../src/engine/request.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { Random } from '../../src/random/random.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { type Collected, collect, request, sampling, serviceError } from './requests.ts'
import { prefixes, settled } from './setup.ts'

const never = new AbortController().signal

interface Drafting {
  readonly engine: Engine
  readonly session: FakeSession
  readonly steps: Step[]
}

/** Every step takes about as long, as where a model's weights are read: so drafts are worth it wherever they come true. */
function open(limits: Partial<EngineLimits> = {}, session = new FakeSession(257)): Drafting {
  session.beforeExtend = () => setTimeout(1)
  const steps: Step[] = []
  const engine = new Engine({
    session,
    tokenizer: byteTokenizer,
    loadPrefix: (id) => Promise.resolve(prefixes[id] as Prefix),
    limits: { ...defaultLimits, ...limits },
    observer: { stepped: (step) => void steps.push(step) },
  })
  return { engine, session, steps }
}

const run = (engine: Engine, asked: GenerateRequest): Promise<Collected> => collect(engine.generate(asked, never))

/** Of texts that are not streamed. */
async function lastOf(engine: Engine, asked: GenerateRequest): Promise<DoneEvent> {
  for await (const event of engine.generate(asked, never)) if (event.type === 'done') return event
  return assert.fail('no end')
}

const sum = (steps: readonly Step[], of: (step: Step) => number): number =>
  steps.reduce((total, step) => total + of(step), 0)

test('a text that was made before is made again in a fraction of the steps, token for token', async () => {
  const { engine, steps } = open()
  const asked = request({ prefixId: 'p1', maxNewTokens: 40, logprobs: true })
  const first = await run(engine, asked)
  // What is guessed is trusted once it has come true a few times.
  for (let i = 0; i < 4; i++) assert.deepEqual(await run(engine, asked), first)
  steps.length = 0
  assert.deepEqual(await run(engine, asked), first)
  assert.equal(
    sum(steps, ({ tokensMade }) => tokensMade),
    first.outputs[0]?.tokens,
  )
  assert.ok(steps.length < 20, `${steps.length} steps for ${first.outputs[0]?.tokens} tokens`)
  const taken = sum(steps, ({ draftTokensTaken }) => draftTokensTaken)
  assert.ok(taken >= 20 && taken <= sum(steps, ({ draftTokens }) => draftTokens), `${taken} taken`)
})

test('with none allowed a step makes one token', async () => {
  const { engine, session } = open({ draftTokensMax: 0 })
  for (let i = 0; i < 4; i++) await run(engine, request({ maxNewTokens: 20 }))
  const [prompt, ...later] = session.calls.slice(-20)
  assert.ok(prompt !== undefined && later.length === 19)
  assert.ok(later.every((call) => call.length === 1 && call[0]?.length === 1))
})

const penalties = { repetitionPenalty: 1.2, presencePenalty: 0.4, frequencyPenalty: 0.3, noRepeatNgramSize: 3 }
const choices: readonly Decoding[] = [
  greedy,
  { ...greedy, ...penalties },
  { ...sampling, temperature: 0.3 },
  { ...sampling, topP: 0.5, topK: 3, n: 2, bestOf: 2 },
  { ...sampling, temperature: 0.4, ...penalties, n: 1, bestOf: 1 },
  { ...greedy, strategy: 'beam', beams: 2 },
]

test('whoever shares steps, arrives or leaves, however tokens are chosen: texts, scores and counts are those without drafts', async () => {
  const seed = Number(process.env['SEED'] ?? 67)
  const random = new Random(seed)
  // Few different ones, each several times: what was learnt is used.
  const kinds = Array.from({ length: 8 }, (_, i) => randomRequest(random, i))
  const asked = Array.from({ length: 64 }, () => kinds[random.below(kinds.length)] as GenerateRequest)
  const expected = new Map<GenerateRequest, DoneEvent>()
  const plain = open({ draftTokensMax: 0 }).engine
  for (const kind of kinds) expected.set(kind, await lastOf(plain, kind))

  const { engine, steps } = open({ prefillTokensMax: 12 })
  let next = 0
  const client = async (): Promise<void> => {
    for (let i = next++; i < asked.length; i = next++) {
      const one = asked[i] as GenerateRequest
      if (i % 7 === 3) await leaveEarly(engine, one)
      assert.deepEqual(await lastOf(engine, one), expected.get(one), `request ${i}, SEED=${seed}`)
    }
  }
  await Promise.all([client(), client(), client()])
  const taken = sum(steps, ({ draftTokensTaken }) => draftTokensTaken)
  assert.ok(taken > 100, `${taken} tokens were taken, SEED=${seed}`)
  assert.ok(steps.some(({ rows, draftTokens }) => rows > 1 && draftTokens > 0))
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
})

test('a text of all positions that there are is made with drafts that stay within them', async () => {
  const { engine, session, steps } = open()
  const input = 'abc'
  const { header } = prefixes['p1'] as Prefix
  const maxNewTokens = fakeLayout.positionsMax - header.prefixLength - byteTokenizer.encode(`${input}>`).length
  session.adjust = (logits) => void (logits[byteTokenizer.endOfText] = -1e9)
  const asked = request({ prefixId: 'p1', inputs: [input], maxNewTokens })
  const first = await run(engine, asked)
  for (let i = 0; i < 4; i++) assert.deepEqual(await run(engine, asked), first)
  assert.equal(first.outputs[0]?.tokens, maxNewTokens)
  assert.ok(sum(steps, ({ draftTokensTaken }) => draftTokensTaken) > 20)
})

test('a step with drafts that fails costs its requests and no other', async () => {
  const { engine, session } = open()
  const asked = request({ maxNewTokens: 30 })
  const first = await run(engine, asked)
  for (let i = 0; i < 4; i++) await run(engine, asked)
  session.beforeExtend = async (parts) => {
    await setTimeout(1)
    if (parts.some(({ every }) => every)) throw new Error('the device is gone')
  }
  await assert.rejects(run(engine, asked), serviceError('engine_failed', 'the device is gone'))
  session.beforeExtend = () => setTimeout(1)
  assert.deepEqual(await run(engine, asked), first)
})

test('while prompts are read, and beside beams, nothing is tried', async () => {
  const { engine, session } = open()
  const asked = request({ maxNewTokens: 30 })
  for (let i = 0; i < 5; i++) await run(engine, asked)
  session.beforeExtend = async (parts) => {
    await setTimeout(1)
    assert.ok(parts.length === 1 || parts.every(({ every }) => every !== true))
  }
  const beams = request({ maxNewTokens: 30, decoding: { ...greedy, strategy: 'beam', beams: 3 } })
  const [before] = [session.calls.length]
  await Promise.all([lastOf(engine, beams), run(engine, asked)])
  const beside = session.calls.slice(before).filter((rows) => rows.length === 4)
  assert.ok(beside.length > 5 && beside.every((rows) => rows.every(({ length }) => length === 1)))
})

function randomRequest(random: Random, i: number): GenerateRequest {
  const inputs = Array.from({ length: 1 + random.below(2) }, () => 'abcdefghijklmnop'.slice(0, random.below(16)))
  const decoding = choices[i % choices.length] as Decoding
  const prefixId = [null, 'p1', 'p2'][random.below(3)] ?? null
  const scores = decoding.strategy === 'beam' ? {} : { logprobs: true, topLogprobs: i % 3 === 0 ? 2 : null }
  const rest = { maxNewTokens: 1 + random.below(24), seed: i, stop: ['q', 'zz'], ...scores }
  return request({ prefixId, inputs, decoding, ...rest })
}

/** Given up after its first event, if it has one before its end. */
async function leaveEarly(engine: Engine, asked: GenerateRequest): Promise<void> {
  const abort = new AbortController()
  try {
    for await (const event of engine.generate(asked, abort.signal)) if (event.type === 'token') abort.abort()
  } catch (error) {
    serviceError('cancelled')(error)
  }
}

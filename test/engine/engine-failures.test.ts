// The engine when callers leave and when things break: rows are freed, errors stay with those whom they concern.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, request, serviceError } from './requests.ts'
import { hold, makeEngine, prefixes, settled } from './setup.ts'

const never = new AbortController().signal

test('a cancelled request frees its rows at once, even when nobody reads its events', async () => {
  const { engine } = makeEngine({}, new FakeSession(257, { ...fakeLayout, rowsMax: 1, positionsMax: 100_000 }))
  const abort = new AbortController()
  const endless = request({ maxNewTokens: 90_000, minNewTokens: 90_000, stop: [] })
  const events = engine.generate(endless, abort.signal)
  await events.next()
  const waiting = collect(engine.generate(request({ maxNewTokens: 3 }), never))
  abort.abort()
  assert.equal((await waiting).outputs.length, 1)
  await assert.rejects(drain(events), serviceError('cancelled'))
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
})

test('a caller that stops reading frees its rows, and one in line its place', async () => {
  const { engine } = makeEngine(
    { waitingMax: 1 },
    new FakeSession(257, { ...fakeLayout, rowsMax: 1, positionsMax: 100_000 }),
  )
  const events = engine.generate(request({ maxNewTokens: 90_000, minNewTokens: 90_000 }), never)
  await events.next()
  const abort = new AbortController()
  const inLine = collect(engine.generate(request(), abort.signal))
  await assert.rejects(collect(engine.generate(request(), never)), serviceError('overloaded'))
  abort.abort()
  await assert.rejects(inLine, serviceError('cancelled'))
  await events.return()
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
  assert.equal((await collect(engine.generate(request(), never))).outputs.length, 1)
})

test('a signal that has fired before, or fires while the prefix is loading, ends the request', async () => {
  const { engine, loading } = makeEngine()
  await assert.rejects(engine.generate(request(), AbortSignal.abort()).next(), serviceError('cancelled'))
  const abort = new AbortController()
  const slow = engine.generate(request({ prefixId: 'slow' }), abort.signal).next()
  abort.abort()
  await assert.rejects(slow, serviceError('cancelled'))
  loading.resolve()
  const { outputs } = await collect(engine.generate(request({ prefixId: 'slow' }), never))
  assert.equal(outputs.length, 1)
})

test('a deadline ends what waits and what runs, and frees its rows', async () => {
  const { engine } = makeEngine({}, new FakeSession(257, { ...fakeLayout, rowsMax: 1, positionsMax: 1_000_000 }))
  const endless = request({ maxNewTokens: 900_000, minNewTokens: 900_000 })
  const over = serviceError('deadline_exceeded', '20 ms')
  const running = assert.rejects(collect(engine.generate({ ...endless, deadlineMs: 20 }, never)), over)
  const waiting = assert.rejects(collect(engine.generate({ ...endless, deadlineMs: 20 }, never)), over)
  await Promise.all([running, waiting])
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
  const inTime = request({ maxNewTokens: 3, deadlineMs: 60_000 })
  assert.equal((await collect(engine.generate(inTime, never))).outputs.length, 1)
  await assert.rejects(engine.generate(request({ deadlineMs: 0 }), never).next(), serviceError('invalid_request'))
  const abort = new AbortController()
  const left = engine.generate({ ...endless, deadlineMs: 60_000 }, abort.signal)
  await left.next()
  abort.abort()
  await assert.rejects(drain(left), serviceError('cancelled'))
})

test('a prefix that is deleted meanwhile finishes its requests', async () => {
  const { engine, session } = makeEngine({ prefixBytesMax: 48 })
  const expected = await collect(engine.generate(request({ prefixId: 'p1', maxNewTokens: 20 }), never))
  const gate = hold(session)
  const running = collect(engine.generate(request({ prefixId: 'p1', maxNewTokens: 20 }), never))
  await gate.reached
  const kept = prefixes['p1'] as Prefix
  delete prefixes['p1']
  gate.open()
  assert.deepEqual(await running, expected)
  prefixes['p1'] = kept
})

test('a step that fails ends the requests in it with engine_failed, and the engine goes on', async () => {
  const { engine, session } = makeEngine()
  const expected = await collect(engine.generate(request(), never))
  let failures = 0
  session.beforeExtend = ([part]) => {
    if (part?.tokens[0]?.length !== 1 || failures > 0) return
    failures++
    throw new Error('the device is on fire')
  }
  const failing = Promise.allSettled([
    collect(engine.generate(request(), never)),
    collect(engine.generate(request({ inputs: ['cd', 'ef'] }), never)),
  ])
  for (const result of await failing) {
    assert.equal(result.status, 'rejected')
    serviceError('engine_failed', 'in a step of', 'the device is on fire')(result.reason)
  }
  assert.deepEqual(await collect(engine.generate(request(), never)), expected)
  assert.deepEqual(await settled(engine), { waiting: 0, running: 0 })
})

test('logits that are not numbers fail only the request that they belong to', async () => {
  const { engine, session } = makeEngine()
  const promptLength = byteTokenizer.encode(' abcd <|endoftext|>').length
  session.adjust = (logits, length) => {
    if (length === promptLength + 1) logits.fill(Number.NaN)
  }
  const [bad, good] = await Promise.allSettled([
    collect(engine.generate(request({ inputs: ['abcd'], maxNewTokens: 4 }), never)),
    collect(engine.generate(request({ inputs: ['abcdefghijkl'], maxNewTokens: 4 }), never)),
  ])
  assert.equal(good.status, 'fulfilled')
  assert.equal(bad.status, 'rejected')
  serviceError('engine_failed', 'no finite logit')(bad.reason)
})

test('closing ends what runs with cancelled, and refuses what comes later', async () => {
  const { engine } = makeEngine()
  const running = collect(engine.generate(request({ maxNewTokens: 40 }), never))
  const rejected = assert.rejects(running, serviceError('cancelled', 'stopping'))
  await engine.close()
  await rejected
  await assert.rejects(collect(engine.generate(request(), never)), serviceError('cancelled', 'stopping'))
})

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const event of events) assert.ok(event)
}

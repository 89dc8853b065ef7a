// POST /generate, answered as one object: what reaches the engine, and what comes back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { greedy } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { addReadyPrefix, makeService, outputs, usage } from './fakes.ts'

const input = 'name : Blue Spice'

test('a request with nothing but an input goes to the bare model with the defaults filled in', async () => {
  const { app, engine } = makeService()
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { input } })
  assert.equal(response.statusCode, 200, response.body)
  assert.deepEqual(response.json(), { prefix: null, outputs, usage })
  const rest = { seed: null, decoding: greedy, logprobs: false, topLogprobs: null }
  assert.deepEqual(engine.requests, [
    { prefixId: null, inputs: [input], maxNewTokens: 64, minNewTokens: 0, stop: [], ...rest },
  ])
})

test('every field of a request reaches the engine', async () => {
  const service = makeService()
  const { id } = await addReadyPrefix(service)
  const decoding = {
    strategy: 'sample',
    temperature: 0.7,
    topK: 5,
    topP: 0.9,
    minP: 0.05,
    typicalP: 0.95,
    repetitionPenalty: 1.1,
    presencePenalty: -0.5,
    frequencyPenalty: 0.5,
    noRepeatNgramSize: 3,
    bannedTexts: ['cheap'],
    bannedTokens: [[5, 6]],
    logitBias: { '50256': -2 },
    n: 2,
    bestOf: 5,
  }
  const rest = { maxNewTokens: 3, minNewTokens: 1, stop: ['\n'], seed: 7, logprobs: true, topLogprobs: 5 }
  const payload = { prefix: 'e2e', input: [input, 'x'], ...rest, decoding, stream: false }
  const response = await service.app.inject({ method: 'POST', url: '/generate', payload })
  assert.equal(response.json().prefix, id)
  const whole = { ...greedy, ...decoding }
  assert.deepEqual(service.engine.requests, [{ prefixId: id, inputs: [input, 'x'], ...rest, decoding: whole }])
})

test('without bestOf as many texts are made as are answered', async () => {
  const { app, engine } = makeService()
  await app.inject({ method: 'POST', url: '/generate', payload: { input, decoding: { strategy: 'sample', n: 3 } } })
  assert.equal(engine.requests[0]?.decoding.bestOf, 3)
})

test('fields that do not go together are refused, each where it stands', async () => {
  const { app, engine } = makeService()
  const sample = { strategy: 'sample' }
  const bad: readonly [string, object][] = [
    ['/minNewTokens', { maxNewTokens: 4, minNewTokens: 5 }],
    ['/decoding/bestOf', { decoding: { ...sample, n: 3, bestOf: 2 } }],
    ['/decoding/bestOf', { decoding: { bestOf: 2 } }],
    ['/stream', { decoding: { ...sample, bestOf: 2 }, stream: true }],
    ['/stream', { decoding: { strategy: 'beam' }, stream: true }],
    ['/logprobs', { decoding: { strategy: 'beam' }, logprobs: true }],
    ['/topLogprobs', { decoding: { strategy: 'beam' }, topLogprobs: 0 }],
    ['/decoding/n', { decoding: { strategy: 'beam', n: 6 } }],
    ['/decoding/n', { decoding: { strategy: 'beam', n: 3, beams: 2 } }],
    ['/decoding/lengthPenalty', { decoding: { ...sample, lengthPenalty: 1 } }],
    ['/decoding/earlyStopping', { decoding: { earlyStopping: true } }],
    ['/decoding/earlyStopping', { decoding: { strategy: 'beam', earlyStopping: 'always' } }],
    ['/decoding/logitBias', { decoding: { logitBias: { the: 1 } } }],
    ['/decoding/logitBias/3', { decoding: { logitBias: { '3': -101 } } }],
    ['/decoding/bannedTexts/0', { decoding: { bannedTexts: [''] } }],
    ['/decoding/bannedTokens/0', { decoding: { bannedTokens: [[]] } }],
    ['/decoding/presencePenalty', { decoding: { presencePenalty: 2.5 } }],
    ['/topLogprobs', { topLogprobs: 21 }],
  ]
  for (const [pointer, fields] of bad) {
    const response = await app.inject({ method: 'POST', url: '/generate', payload: { input, ...fields } })
    assert.equal(response.statusCode, 400, `${pointer}: ${response.body}`)
    assert.equal(response.json().errors[0].pointer, pointer)
  }
  assert.equal(engine.requests.length, 0)
})

test('the engine hears of a deadline, and that one has passed is a 504 problem', async () => {
  const { app, engine } = makeService()
  const payload = { input, deadlineMs: 50 }
  await app.inject({ method: 'POST', url: '/generate', payload })
  assert.equal(engine.requests[0]?.deadlineMs, 50)
  engine.fails = new ServiceError('deadline_exceeded', 'not done within 50 ms', { deadlineMs: 50 })
  const response = await app.inject({ method: 'POST', url: '/generate', payload })
  assert.equal(response.statusCode, 504)
  assert.equal(response.json().code, 'deadline_exceeded')
})

test('the engine can tell callers apart by their keys, and is not told the keys', async () => {
  const { app, engine } = makeService({ apiKeys: ['key-one', 'key-two'] })
  for (const key of ['key-one', 'key-two', 'key-one']) {
    const headers = { authorization: `Bearer ${key}` }
    await app.inject({ method: 'POST', url: '/generate', payload: { input }, headers })
  }
  const [one, two, again] = engine.requests.map(({ client }) => client)
  assert.ok(one !== undefined && one === again && one !== two && !one.includes('key'))
  const open = makeService()
  const headers = { authorization: 'Bearer anything' }
  await open.app.inject({ method: 'POST', url: '/generate', payload: { input }, headers })
  assert.equal(open.engine.requests[0]?.client, undefined)
})

test('a prefix is found by its id, its name and its name with a version', async () => {
  const service = makeService()
  const first = await addReadyPrefix(service)
  const second = await addReadyPrefix(service)
  for (const [prefix, id] of [
    [first.id, first.id],
    ['e2e', second.id],
    ['e2e@1', first.id],
    ['e2e@2', second.id],
  ]) {
    const response = await service.app.inject({ method: 'POST', url: '/generate', payload: { prefix, input } })
    assert.equal(response.json().prefix, id, prefix)
  }
})

test('an unknown prefix is a 404 problem that names it', async () => {
  const { app, engine } = makeService()
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { prefix: 'e3e', input } })
  assert.equal(response.statusCode, 404)
  assert.match(response.headers['content-type'] ?? '', /^application\/problem\+json/)
  const { type, code, status, detail, instance } = response.json()
  assert.deepEqual({ type, code, status }, { type: '/errors#prefix_not_found', code: 'prefix_not_found', status: 404 })
  assert.match(detail, /e3e/)
  assert.equal(instance, response.headers['x-request-id'])
  assert.equal(engine.requests.length, 0)
})

test('a prefix that is still trained is a 409 problem', async () => {
  const service = makeService()
  const { id } = await addReadyPrefix(service)
  await service.registry.update(id, { status: 'training' })
  const response = await service.app.inject({ method: 'POST', url: '/generate', payload: { prefix: id, input } })
  assert.equal(response.statusCode, 409)
  assert.equal(response.json().code, 'prefix_not_ready')
})

test('all that is wrong with a request is listed: where, what was expected, what came', async () => {
  const { app, engine } = makeService()
  const payload = { input: 7, maxNewTokens: 0, temprature: 1, decoding: { topP: 'high', strategy: 'best' }, stop: [''] }
  const response = await app.inject({ method: 'POST', url: '/generate', payload })
  assert.equal(response.statusCode, 400)
  const { code, errors, errorsTotal } = response.json()
  assert.equal(code, 'invalid_request')
  assert.equal(errorsTotal, 6)
  const byPointer = new Map<string, { expected: string; received: string }>()
  for (const { pointer, expected, received } of errors) byPointer.set(pointer, { expected, received })
  assert.deepEqual(byPointer.get('/input'), { expected: 'string or array', received: '7' })
  assert.deepEqual(byPointer.get('/maxNewTokens'), { expected: '>= 1', received: '0' })
  assert.match(byPointer.get('/temprature')?.expected ?? '', /one of the fields prefix, input, maxNewTokens/)
  assert.deepEqual(byPointer.get('/decoding/topP'), { expected: 'number', received: '"high"' })
  assert.deepEqual(byPointer.get('/decoding/strategy'), {
    expected: 'one of "greedy", "sample", "beam"',
    received: '"best"',
  })
  assert.deepEqual(byPointer.get('/stop/0'), { expected: 'at least 1 characters', received: '""' })
  assert.equal(engine.requests.length, 0)
})

test('limits of a request are kept: inputs, their length, stop texts, n, temperature', async () => {
  const { app, engine } = makeService()
  const bad: readonly [string, object][] = [
    ['/input', { input: [] }],
    ['/input', { input: Array.from({ length: 257 }, () => 'x') }],
    ['/input', { input: 'x'.repeat(65_537) }],
    ['/input/1', { input: ['x', 'x'.repeat(65_537)] }],
    ['/maxNewTokens', { input, maxNewTokens: 4_097 }],
    ['/stop', { input, stop: Array.from({ length: 17 }, () => 'x') }],
    ['/decoding/n', { input, decoding: { n: 17 } }],
    ['/decoding/temperature', { input, decoding: { temperature: 0 } }],
    ['/decoding/topP', { input, decoding: { topP: 1.01 } }],
    ['/seed', { input, seed: 1.5 }],
  ]
  for (const [pointer, payload] of bad) {
    const response = await app.inject({ method: 'POST', url: '/generate', payload })
    assert.equal(response.statusCode, 400, pointer)
    assert.equal(response.json().errors[0].pointer, pointer)
  }
  assert.equal(engine.requests.length, 0)
})

test('the fields of a beam search reach the engine, and are refused without it', async () => {
  const { app, engine } = makeService()
  const post = (decoding: object) => app.inject({ method: 'POST', url: '/generate', payload: { input, decoding } })
  const beam = await post({ strategy: 'beam', beams: 5, lengthPenalty: 1 })
  assert.equal(beam.statusCode, 200)
  const { strategy, beams, lengthPenalty, earlyStopping } = engine.requests[0]?.decoding ?? assert.fail()
  assert.deepEqual([strategy, beams, lengthPenalty, earlyStopping], ['beam', 5, 1, false])
  const greedy = await post({ beams: 5 })
  assert.equal(greedy.statusCode, 400)
  assert.equal(greedy.json().errors[0].pointer, '/decoding/beams')
  assert.equal(engine.requests.length, 1)
})

test('a full waiting line answers 503 with Retry-After', async () => {
  const { app, engine } = makeService()
  engine.fails = new ServiceError('overloaded', 'the waiting line is full', { retryAfterSeconds: 3 })
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { input } })
  assert.equal(response.statusCode, 503)
  assert.equal(response.headers['retry-after'], '3')
  assert.equal(response.json().code, 'overloaded')
})

test('an input that is too long is a 422 problem with all its numbers', async () => {
  const { app, engine } = makeService()
  engine.fails = new ServiceError('input_too_long', 'input 0 needs 70 positions', { index: 0, positionsMax: 64 })
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { input } })
  assert.equal(response.statusCode, 422)
  const { code, index, positionsMax } = response.json()
  assert.deepEqual({ code, index, positionsMax }, { code: 'input_too_long', index: 0, positionsMax: 64 })
})

test('an unknown error answers 500 without its text, and the log has its stack under the same id', async () => {
  const { app, engine, log } = makeService()
  engine.fails = new Error('secret of the house')
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { input } })
  assert.equal(response.statusCode, 500)
  assert.equal(response.json().code, 'internal')
  assert.ok(!response.body.includes('secret'))
  const line = log.find((entry) => entry.includes('secret of the house')) ?? ''
  assert.ok(line.includes(response.json().instance) && line.includes('stack'))
})

// POST /v1/completions as the official client asks for it: what reaches the engine, what comes back, and what is refused.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { APIError, BadRequestError, NotFoundError } from 'openai'
import { greedy } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { addReadyPrefix, model } from './fakes.ts'
import { all, errorOf, openClient } from './openai-client.ts'

const prompt = 'name : Blue Spice'
const usage = { prompt_tokens: 12, completion_tokens: 2, total_tokens: 14 }

test('a completion with a prefix as the model is what the engine makes, with the defaults of OpenAI', async (t) => {
  const service = await openClient(t)
  const { id } = await addReadyPrefix(service)
  const completion = await service.client.completions.create({ model: 'e2e', prompt })
  const { id: completionId, created, ...rest } = completion
  assert.match(completionId, /^cmpl-[0-9a-f]{32}$/)
  assert.ok(Math.abs(created - Date.now() / 1_000) < 60)
  assert.deepEqual(rest, {
    object: 'text_completion',
    model: 'e2e@1',
    system_fingerprint: `fp_${model.sha256.slice(0, 12)}`,
    choices: [{ text: 'Blue Spice.', index: 0, logprobs: null, finish_reason: 'stop' }],
    usage,
  })
  const decoding = { ...greedy, strategy: 'sample' }
  const request = { prefixId: id, inputs: [prompt], maxNewTokens: 16, stop: [], seed: null, decoding, logprobs: false }
  assert.deepEqual(service.engine.requests, [request])
})

test('every field that has a meaning here reaches the engine, and temperature 0 is greedy', async (t) => {
  const { client, engine } = await openClient(t)
  const fields = {
    max_tokens: 5,
    temperature: 0.7,
    top_p: 0.9,
    n: 2,
    seed: 7,
    user: 'someone',
    best_of: 3,
    suffix: null,
  }
  await client.completions.create({
    model: model.name,
    prompt: [prompt, 'x'],
    stop: ['\n', 'END'],
    presence_penalty: 0.5,
    frequency_penalty: -1,
    logit_bias: { 50256: -100 },
    ...fields,
  })
  const penalties = { presencePenalty: 0.5, frequencyPenalty: -1, logitBias: { 50256: -100 } }
  const decoding = { ...greedy, strategy: 'sample', temperature: 0.7, topP: 0.9, ...penalties, n: 2, bestOf: 3 }
  const rest = { maxNewTokens: 5, stop: ['\n', 'END'], seed: 7, decoding, logprobs: false }
  assert.deepEqual(engine.requests[0], { prefixId: null, inputs: [prompt, 'x'], ...rest })
  await client.completions.create({ model: model.name, prompt, temperature: 0, stop: 'END' })
  const { decoding: second, stop } = engine.requests[1] ?? assert.fail()
  assert.deepEqual([second, stop], [greedy, ['END']])
})

test('a model is found by id, name and name@version, and the answer says which version it was', async (t) => {
  const service = await openClient(t)
  const first = await addReadyPrefix(service)
  await addReadyPrefix(service)
  const unnamed = await addReadyPrefix(service, null)
  for (const [asked, answered] of [
    ['e2e', 'e2e@2'],
    ['e2e@1', 'e2e@1'],
    [first.id, 'e2e@1'],
    [unnamed.id, unnamed.id],
    [model.name, model.name],
  ] as const) {
    assert.equal((await service.client.completions.create({ model: asked, prompt })).model, answered)
  }
})

test('a stream has the text in pieces, a reason at its end, and the usage where it was asked for', async (t) => {
  const { client } = await openClient(t)
  const asked = { model: model.name, prompt, stream: true } as const
  const chunks = await all(await client.completions.create({ ...asked, stream_options: { include_usage: true } }))
  assert.equal(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size, 1)
  const choices = chunks.flatMap(({ choices }) => choices)
  assert.deepEqual(
    choices.map(({ text, finish_reason: reason }) => [text, reason]),
    [
      ['Blue', null],
      [' Spice.', null],
      ['', 'stop'],
    ],
  )
  assert.deepEqual([chunks.at(-1)?.choices, chunks.at(-1)?.usage, chunks[0]?.usage], [[], usage, null])
  const plain = await all(await client.completions.create(asked))
  assert.deepEqual([plain.length, plain.some((chunk) => 'usage' in chunk)], [3, false])
})

test('a stream is data alone and ends with [DONE], which other clients depend on', async (t) => {
  const { address } = await openClient(t)
  const response = await fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: model.name, prompt, stream: true }),
  })
  const text = await response.text()
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
  assert.ok(text.endsWith('data: [DONE]\n\n'))
  for (const line of text.split('\n')) assert.ok(line === '' || line.startsWith('data: '), line)
})

test('log-probabilities come in four lists, in a stream with the last piece', async (t) => {
  const { client, engine } = await openClient(t)
  const asked = { model: model.name, prompt, logprobs: 2 }
  const { choices } = await client.completions.create(asked)
  assert.deepEqual([engine.requests[0]?.topLogprobs, engine.requests[0]?.logprobs], [2, false])
  const expected = {
    tokens: ['Blue', ' Spice.'],
    token_logprobs: [-0.25, -2],
    top_logprobs: [
      { Blue: -0.25, The: -1.5 },
      { '.': -0.5, ' Spice.': -2 },
    ],
    text_offset: [0, 4],
  }
  assert.deepEqual(choices[0]?.logprobs, expected)
  const chunks = await all(await client.completions.create({ ...asked, stream: true }))
  assert.deepEqual(
    chunks.map(({ choices }) => choices[0]?.logprobs),
    [null, null, expected],
  )
})

test('echo answers each prompt before its completion, streamed or not', async (t) => {
  const { client } = await openClient(t)
  const asked = { model: model.name, prompt, echo: true }
  const { choices } = await client.completions.create(asked)
  assert.equal(choices[0]?.text, `${prompt}Blue Spice.`)
  const chunks = await all(await client.completions.create({ ...asked, stream: true }))
  assert.equal(chunks.map(({ choices }) => choices[0]?.text).join(''), `${prompt}Blue Spice.`)
})

test('what this engine does not do is refused by the name of its field', async (t) => {
  const { client, engine } = await openClient(t)
  const asking: Readonly<Record<string, object>> = {
    suffix: { suffix: 'end' },
    logprobs: { logprobs: 0, echo: true },
  }
  for (const [field, fields] of Object.entries(asking)) {
    const error = await errorOf(client.completions.create({ model: model.name, prompt, ...fields }))
    assert.ok(error instanceof BadRequestError, field)
    assert.deepEqual([error.param, error.code, error.type], [field, 'not_supported', 'invalid_request_error'])
    assert.ok(error.message.includes(field))
  }
  assert.equal(engine.requests.length, 0)
})

test('fields out of range, token ids and unknown fields are refused by their place', async (t) => {
  const { client, engine } = await openClient(t)
  const bad: readonly [string, object][] = [
    ['max_tokens', { max_tokens: 0 }],
    ['temperature', { temperature: 2.5 }],
    ['prompt[0]', { prompt: [464, 318] }],
    ['stop[1]', { stop: ['a', ''] }],
    ['n', { n: 17 }],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['best_of', { best_of: 2, n: 3 }],
    ['best_of', { best_of: 2, stream: true }],
    ['best_of', { best_of: 2, temperature: 0 }],
    ['temprature', { temprature: 1 }],
  ]
  for (const [param, fields] of bad) {
    const error = await errorOf(client.completions.create({ model: model.name, prompt, ...fields }))
    assert.ok(error instanceof BadRequestError, param)
    assert.deepEqual([error.param, error.code], [param, 'invalid_request'])
  }
  assert.equal(engine.requests.length, 0)
})

test('an unknown model is not found, one that is still trained is a bad request, and neither is tried again', async (t) => {
  const service = await openClient(t)
  const unknown = await errorOf(service.client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt }))
  assert.ok(unknown instanceof NotFoundError)
  assert.deepEqual([unknown.code, unknown.param], ['model_not_found', 'model'])
  assert.match(unknown.message, /gpt-3\.5-turbo-instruct.*the bare model is tiny/)
  const { id } = await addReadyPrefix(service)
  await service.registry.update(id, { status: 'training' })
  const early = await errorOf(service.client.completions.create({ model: 'e2e', prompt }))
  assert.ok(early instanceof BadRequestError)
  assert.equal(early.code, 'prefix_not_ready')
  const asked = service.log.filter((line) => line.includes('"route":"/v1/completions"'))
  assert.equal(asked.length, 2)
})

test('an error after the first piece is thrown where the stream is read', async (t) => {
  const { client, engine } = await openClient(t)
  engine.failsLater = new ServiceError('engine_failed', 'the model failed in the middle')
  const stream = await client.completions.create({ model: model.name, prompt, stream: true })
  const pieces: string[] = []
  const error = await errorOf(
    (async () => {
      for await (const { choices } of stream) pieces.push(choices[0]?.text ?? '')
    })(),
  )
  assert.deepEqual(pieces, ['Blue'])
  assert.ok(error instanceof APIError)
  assert.equal(error.code, 'engine_failed')
  assert.match(error.message, /in the middle/)
})

test('an input that is too long is a bad request under the code that clients know', async (t) => {
  const { client, engine } = await openClient(t)
  engine.fails = new ServiceError('input_too_long', 'input 0 needs 70 positions', { index: 0, positionsMax: 64 })
  for (const stream of [false, true]) {
    const error = await errorOf(client.completions.create({ model: model.name, prompt, stream }))
    assert.ok(error instanceof BadRequestError)
    assert.equal(error.code, 'context_length_exceeded')
  }
})

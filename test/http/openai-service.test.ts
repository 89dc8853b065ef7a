// What all routes under /v1 have alike, by the official client: keys, errors, retries, and the list of models.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI, { APIError, AuthenticationError, BadRequestError, InternalServerError, NotFoundError } from 'openai'
import { ServiceError } from '../../src/errors/errors.ts'
import { addReadyPrefix, model } from './fakes.ts'
import { all, errorOf, openClient } from './openai-client.ts'

const prompt = 'name : Blue Spice'

test('the bare model and every prefix that is ready are models, the newest first', async (t) => {
  const service = await openClient(t)
  await addReadyPrefix(service)
  await addReadyPrefix(service)
  const unnamed = await addReadyPrefix(service, null)
  const { id } = await addReadyPrefix(service, 'queued')
  await service.registry.update(id, { status: 'training' })
  const models = await all(service.client.models.list())
  assert.deepEqual(
    models.map((each) => each.id),
    [model.name, unnamed.id, 'e2e@2', 'e2e@1'],
  )
  assert.ok(models.every(({ object, owned_by: owner }) => object === 'model' && owner === 'preamble'))
  const { created, id: latest } = await service.client.models.retrieve('e2e')
  assert.equal(latest, 'e2e@2')
  assert.ok(Math.abs(created - Date.now() / 1_000) < 60)
  assert.equal((await service.client.models.retrieve(model.name)).id, model.name)
})

test('a long list of models goes on after its last one', async (t) => {
  const service = await openClient(t)
  for (let i = 0; i < 5; i++) await addReadyPrefix(service)
  const ids: string[] = []
  for (let after = ''; ; ) {
    const response = await service.app.inject(`/v1/models?limit=2${after}`)
    const { data, has_more: more } = response.json() as { data: { id: string }[]; has_more: boolean }
    ids.push(...data.map(({ id }) => id))
    if (!more) break
    after = `&after=${ids.at(-1)}`
  }
  assert.deepEqual(ids, [model.name, 'e2e@5', 'e2e@4', 'e2e@3', 'e2e@2', 'e2e@1'])
})

test('deleting a model deletes its prefix, and the bare model stays', async (t) => {
  const service = await openClient(t)
  const { id } = await addReadyPrefix(service)
  assert.deepEqual(await service.client.models.delete('e2e@1'), { id: 'e2e@1', object: 'model', deleted: true })
  await assert.rejects(service.registry.find(id), { code: 'prefix_not_found' })
  assert.ok((await errorOf(service.client.models.retrieve('e2e@1'))) instanceof NotFoundError)
  const bare = await errorOf(service.client.models.delete(model.name))
  assert.ok(bare instanceof BadRequestError)
  assert.equal(bare.param, 'model')
})

test('without the right key the client throws its error of authentication, with it it works', async (t) => {
  const { client, address } = await openClient(t, { apiKeys: ['the-right-key'] }, 'another-key')
  const error = await errorOf(client.models.list())
  assert.ok(error instanceof AuthenticationError)
  assert.deepEqual([error.code, error.type], ['invalid_api_key', 'authentication_error'])
  const right = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'the-right-key' })
  assert.equal((await all(right.models.list())).length, 1)
})

test('a full waiting line is tried again after the time it names, and then answered', async (t) => {
  const { client, engine } = await openClient(t)
  engine.fails = new ServiceError('overloaded', 'the waiting line is full', { retryAfterSeconds: 0.01 })
  const asked = client.completions.create({ model: model.name, prompt })
  while (engine.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  engine.fails = null
  assert.equal((await asked).choices[0]?.text, 'Blue Spice.')
  assert.equal(engine.requests.length, 2)
})

test('a line that stays full is the error of a server that is away, with the time to wait', async (t) => {
  const { client, engine } = await openClient(t)
  engine.fails = new ServiceError('overloaded', 'the waiting line is full', { retryAfterSeconds: 3 })
  const error = await errorOf(client.completions.create({ model: model.name, prompt }, { maxRetries: 0 }))
  assert.ok(error instanceof InternalServerError)
  assert.deepEqual([error.status, error.code, error.type], [503, 'overloaded', 'server_error'])
  assert.equal(error.headers.get('retry-after'), '3')
})

test('an unexpected error tells nothing of itself, and the client knows the id that the log has', async (t) => {
  const { client, engine, log } = await openClient(t)
  engine.fails = new Error('secret of the house')
  const error = await errorOf(client.completions.create({ model: model.name, prompt }, { maxRetries: 0 }))
  assert.ok(error instanceof InternalServerError)
  assert.ok(!error.message.includes('secret'))
  assert.ok(log.some((line) => line.includes('secret of the house') && line.includes(error.requestID ?? 'no id')))
})

test('chat completions are not found, and the message says what is served', async (t) => {
  const { client } = await openClient(t)
  const error = await errorOf(
    client.chat.completions.create({ model: model.name, messages: [{ role: 'user', content: prompt }] }),
  )
  assert.ok(error instanceof NotFoundError)
  assert.equal(error.code, 'not_supported')
  assert.match(error.message, /POST \/v1\/completions/)
  const other = await errorOf(client.embeddings.create({ model: model.name, input: prompt }))
  assert.deepEqual([other.status, other.code], [404, 'route_not_found'])
})

test('clients that name a media type where they send no body are not refused for it', async (t) => {
  const service = await openClient(t)
  await addReadyPrefix(service)
  const headers = { 'content-type': 'application/json' }
  const deleted = await fetch(`${service.address}/v1/models/e2e@1`, { method: 'DELETE', headers })
  assert.equal(deleted.status, 200, await deleted.text())
  const cancelled = await fetch(`${service.address}/v1/fine_tuning/jobs/job_0/cancel`, { method: 'POST', headers })
  assert.equal(cancelled.status, 404)
  const missing = await fetch(`${service.address}/v1/completions`, { method: 'POST', headers })
  assert.equal(missing.status, 400)
})

test('errors under /v1 have the shape of OpenAI, those beside it stay problem documents', async (t) => {
  const { app } = await openClient(t)
  const statusAndType = async (url: string, payload: string) => {
    const headers = { 'content-type': 'application/json' }
    const response = await app.inject({ method: 'POST', url, headers, payload })
    return { status: response.statusCode, type: response.headers['content-type'], body: response.json() }
  }
  const broken = await statusAndType('/v1/completions', '{"model": ')
  assert.deepEqual([broken.status, broken.type], [400, 'application/json; charset=utf-8'])
  assert.deepEqual(Object.keys(broken.body), ['error'])
  const { message, type, param, code } = broken.body.error
  assert.ok(typeof message === 'string' && param === null)
  assert.deepEqual([type, code], ['invalid_request_error', 'invalid_request'])
  const native = await statusAndType('/generate', '{"input": ')
  assert.match(String(native.type), /^application\/problem\+json/)
  const url = (await app.inject('/v1/models/%zz')).json() as { error?: APIError }
  assert.equal(url.error?.code, 'invalid_request')
})

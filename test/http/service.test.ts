// The service itself: keys, health, readiness, figures, its log, and the list of errors.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { kinds } from '../../src/http/problem.ts'
import { addReadyPrefix, FakeEngine, makeService, model, runtime, version } from './fakes.ts'

const key = 'a-key-of-16-or-more'

test('with keys set, nothing answers without one but health, readiness, errors and docs', async () => {
  const { app } = makeService({ apiKeys: ['another-key-of-ours', key] })
  const guarded = [
    ['GET', '/'],
    ['GET', '/metrics'],
    ['GET', '/prefixes'],
    ['GET', '/prefixes/e2e'],
    ['GET', '/prefixes/e2e/artifact'],
    ['DELETE', '/prefixes/e2e'],
    ['POST', '/prefixes'],
    ['POST', '/prefixes/import'],
    ['POST', '/datasets'],
    ['POST', '/generate'],
    ['GET', '/jobs'],
    ['GET', '/jobs/job_1'],
    ['DELETE', '/jobs/job_1'],
    ['GET', '/jobs/job_1/events'],
  ] as const
  for (const [method, url] of guarded) {
    const response = await app.inject({ method, url })
    assert.equal(response.statusCode, 401, `${method} ${url}`)
    assert.equal(response.json().code, 'unauthorized')
    assert.match(String(response.headers['www-authenticate']), /^Bearer/)
  }
  for (const url of ['/healthz', '/readyz', '/errors', '/docs/', '/docs/yaml']) {
    assert.equal((await app.inject(url)).statusCode, 200, url)
  }
})

test('one of the keys opens, a wrong one and a malformed header do not', async () => {
  const { app } = makeService({ apiKeys: ['another-key-of-ours', key] })
  const ask = async (authorization: string) =>
    (await app.inject({ url: '/jobs', headers: { authorization } })).statusCode
  assert.equal(await ask(`Bearer ${key}`), 200)
  assert.equal(await ask('bearer another-key-of-ours'), 200)
  for (const wrong of [`Bearer ${key}x`, `Bearer ${key.slice(0, -1)}`, key, 'Bearer', `Basic ${key}`, 'Bearer a b']) {
    assert.equal(await ask(wrong), 401, wrong)
  }
})

test('the index says what runs here and where to go on', async () => {
  const { app } = makeService()
  const index = (await app.inject('/')).json()
  assert.deepEqual(
    { name: index.name, version: index.version, model: index.model },
    { name: 'preamble', version, model },
  )
  for (const [name, url] of Object.entries(index.links as Record<string, string>)) {
    const { statusCode } = await app.inject(url)
    assert.ok(statusCode === 200 || statusCode === 302, `${name}: ${url} answers ${statusCode}`)
  }
})

test('the documentation loads nothing from elsewhere', async () => {
  const { app } = makeService()
  const page = await app.inject('/docs/')
  assert.equal(page.statusCode, 200)
  assert.doesNotMatch(page.body, /(src|href)="(https?:)?\/\//)
})

test('GET /readyz tells of each part, and is 503 while one is away or does not answer', async () => {
  const { app, engine, queue, store } = makeService({ limits: { ...defaultHttpLimits, readyMsMax: 20 } })
  const ok = { status: 'ok', detail: null }
  const good = await app.inject('/readyz')
  assert.equal(good.statusCode, 200)
  assert.deepEqual(good.json(), { status: 'ready', parts: { engine: ok, queue: ok, store: ok }, runtime })
  queue.fails = new ServiceError('queue_unavailable', 'away')
  store.ping = () => new Promise(() => {})
  engine.readyError = new Error('no model')
  const bad = await app.inject('/readyz')
  assert.equal(bad.statusCode, 503)
  assert.deepEqual(bad.json(), {
    status: 'not_ready',
    parts: {
      engine: { status: 'failed', detail: 'no model' },
      queue: { status: 'failed', detail: 'away' },
      store: { status: 'failed', detail: 'no answer within 20 ms' },
    },
    runtime: null,
  })
})

test('GET /metrics counts requests by route and status, tokens, and what the queue adds', async () => {
  const service = makeService()
  await addReadyPrefix(service)
  await service.app.inject({ method: 'POST', url: '/generate', payload: { input: 'x' } })
  await service.app.inject('/prefixes/e2e')
  await service.app.inject('/prefixes/none')
  Object.assign(service.queue, { prometheus: () => Promise.resolve('bullmq_job_count 7\n') })
  const { body, headers } = await service.app.inject('/metrics')
  assert.match(String(headers['content-type']), /^text\/plain/)
  const lines = body.split('\n')
  for (const line of [
    'preamble_generated_tokens_total 2',
    'preamble_streams_active 0',
    'preamble_http_requests_total{method="GET",route="/prefixes/:idOrName",status="200"} 1',
    'preamble_http_requests_total{method="GET",route="/prefixes/:idOrName",status="404"} 1',
    'preamble_http_request_duration_seconds_count{method="POST",route="/generate"} 1',
    'bullmq_job_count 7',
  ]) {
    assert.ok(lines.includes(line), `${line} is not in\n${body}`)
  }
  assert.match(body, /process_resident_memory_bytes [0-9]/)
})

test('every request is one line in the log, with its id and without the texts of users', async () => {
  const { app, log } = makeService()
  const response = await app.inject({ method: 'POST', url: '/generate', payload: { input: 'very private' } })
  assert.equal(log.length, 1)
  const { method, route, status, reqId, ms } = JSON.parse(log[0] ?? '')
  assert.deepEqual({ method, route, status }, { method: 'POST', route: '/generate', status: 200 })
  assert.equal(reqId, response.headers['x-request-id'])
  assert.ok(ms >= 0 && !log.join('').includes('private'))
  await app.inject({ method: 'POST', url: '/generate', payload: { input: 7, private: 'very private' } })
  assert.equal(log.length, 2)
  assert.ok(!log.join('').includes('private'))
})

test('a route that is not there and a method that a route does not have are 404 problems', async () => {
  const { app } = makeService()
  for (const [method, url] of [
    ['GET', '/prefix'],
    ['PUT', '/prefixes'],
    ['POST', '/jobs'],
    ['GET', '/prefixes/%E0%A4%A'],
  ] as const) {
    const response = await app.inject({ method, url })
    assert.match(String(response.headers['content-type']), /^application\/problem\+json/)
    assert.equal(response.statusCode, url.includes('%') ? 400 : 404, url)
  }
})

test('docs/errors.md has a heading for every code, and no other', async () => {
  const text = await readFile('docs/errors.md', 'utf8')
  const headings = [...text.matchAll(/^## `([a-z_]+)`$/gm)].map(([, code]) => code)
  assert.equal(new Set(headings).size, headings.length)
  assert.deepEqual(new Set(headings), new Set(Object.keys(kinds)))
  for (const [code, { status }] of Object.entries(kinds)) {
    const section = text.split(`## \`${code}\`\n`)[1]?.split('\n## ')[0] ?? ''
    assert.ok(
      section.startsWith(`\nStatus ${status}. `),
      `${code}: the section does not begin with its status, ${status}`,
    )
  }
})

test('GET /errors lists every code', async () => {
  const { app } = makeService({ engine: new FakeEngine() })
  const { errors } = (await app.inject('/errors')).json()
  assert.deepEqual(errors.length, Object.keys(kinds).length)
  assert.deepEqual(errors[0], { code: 'invalid_request', ...kinds.invalid_request })
})

// Server-sent events over a real connection: their order, their end, and what happens when a side leaves.
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { test } from 'node:test'
import type { GenerateEvent, GenerateRequest } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { encodeEvents } from '../../src/http/streams.ts'
import { examples, makeJob, makeService, model, outputs, type Service, usage, runtime } from './fakes.ts'

async function listen({ app }: Service): Promise<string> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

function generate(url: string, signal?: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ input: 'x', stream: true })
  const headers = { 'content-type': 'application/json' }
  return fetch(`${url}/generate`, { method: 'POST', headers, body, ...(signal && { signal }) })
}

interface Received {
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: unknown
}

/** The events of a stream, comments and retry times left out. */
function parseEvents(text: string): Received[] {
  const blocks = text.split('\n\n').filter((block) => block.includes('data: '))
  return blocks.map((block) => {
    const lines = block.split('\n')
    const fieldOf = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
    return { id: fieldOf('id'), event: fieldOf('event'), data: JSON.parse(fieldOf('data') ?? 'null') }
  })
}

async function* only<T>(value: T): AsyncGenerator<T> {
  yield value
}

/** Gives a word, then nothing more until it is told to stop; tells when that was. */
class PatientEngine {
  stopped: () => void = () => {}
  readonly whenStopped = new Promise<void>((resolve) => (this.stopped = resolve))

  async *generate(_request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    yield { type: 'token', index: 0, text: 'Blue' }
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    this.stopped()
    throw new ServiceError('cancelled', 'the request was cancelled')
  }

  ready(): Promise<{ runtime: typeof runtime }> {
    return Promise.resolve({ runtime })
  }
}

test('a generation is streamed as tokens and ends with the whole object', async () => {
  const service = makeService()
  const response = await generate(await listen(service))
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
  assert.deepEqual(parseEvents(await response.text()), [
    { id: undefined, event: 'token', data: { index: 0, text: 'Blue' } },
    { id: undefined, event: 'token', data: { index: 0, text: ' Spice.' } },
    { id: undefined, event: 'done', data: { prefix: null, outputs, usage } },
  ])
  await service.app.close()
})

test('what is wrong before the first event has a status; what goes wrong later is the last event', async () => {
  const service = makeService()
  const url = await listen(service)
  service.engine.fails = new ServiceError('overloaded', 'full', { retryAfterSeconds: 1 })
  const refused = await generate(url)
  assert.equal(refused.status, 503)
  assert.equal(((await refused.json()) as { code: string }).code, 'overloaded')
  service.engine.fails = null
  service.engine.failsLater = new ServiceError('engine_failed', 'the model failed in a decode step')
  const events = parseEvents(await (await generate(url)).text())
  assert.deepEqual(
    events.map(({ event }) => event),
    ['token', 'error'],
  )
  const { code, status, detail } = (events[1]?.data ?? {}) as Record<string, unknown>
  assert.deepEqual(
    { code, status, detail },
    {
      code: 'engine_failed',
      status: 500,
      detail: 'the model failed in a decode step',
    },
  )
  await service.app.close()
})

test('what goes wrong in a stream is logged once, on both interfaces, and an unexpected error tells its client nothing', async () => {
  const service = makeService()
  const url = await listen(service)
  const headers = { 'content-type': 'application/json' }
  for (const { path, body } of [
    { path: '/generate', body: { input: 'x', stream: true } },
    { path: '/v1/completions', body: { model: model.name, prompt: 'x', stream: true } },
  ]) {
    const asked = async (
      error: Error,
    ): Promise<readonly [text: string, logged: readonly Record<string, unknown>[]]> => {
      service.engine.failsLater = error
      const before = service.log.length
      const response = await fetch(`${url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
      const text = await response.text()
      const lines = service.log.slice(before).map((line) => JSON.parse(line) as Record<string, unknown>)
      return [text, lines.filter(({ level }) => Number(level) > 30)]
    }
    const [text, unexpected] = await asked(new Error('secret of the house'))
    assert.ok(text.includes('"internal"') && !text.includes('secret'), text)
    assert.deepEqual(
      unexpected.map(({ msg, err }) => [msg, (err as Error).message]),
      [['unexpected error', 'secret of the house']],
    )
    const [, failed] = await asked(new ServiceError('engine_failed', 'the model failed in a decode step'))
    assert.deepEqual(
      failed.map(({ msg, code }) => [msg, code]),
      [['request failed', 'engine_failed']],
    )
  }
  await service.app.close()
})

test('a client that leaves in the middle of a stream stops its generation', async () => {
  const engine = new PatientEngine()
  const service = makeService({ engine })
  const abort = new AbortController()
  const response = await generate(await listen(service), abort.signal)
  const reader = response.body?.getReader()
  await reader?.read()
  const gone = assert.rejects(async () => {
    for (let next = await reader?.read(); next?.done === false; next = await reader?.read());
  })
  abort.abort()
  await gone
  await engine.whenStopped
  await service.app.close()
})

test('a client that leaves without having asked for a stream stops its generation too', async () => {
  const engine = new PatientEngine()
  const service = makeService({ engine })
  const url = await listen(service)
  const abort = new AbortController()
  const arrived = new Promise((resolve) => service.app.server.once('request', resolve))
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ input: 'x' })
  const answer = fetch(`${url}/generate`, { method: 'POST', headers, body, signal: abort.signal })
  await arrived
  abort.abort()
  await assert.rejects(answer)
  await engine.whenStopped
  await service.app.close()
})

test('the events of a job are replayed from Last-Event-ID, and the stream closes at the end of the job', async () => {
  const service = makeService()
  const url = await listen(service)
  const job = makeJob({ status: 'succeeded', finishedAt: '2026-11-24T09:00:00.000Z' })
  service.queue.jobs.set(job.id, job)
  service.queue.history = [
    { id: 1, type: 'started', data: { attempt: 1 } },
    { id: 2, type: 'progress', data: { step: 10, loss: 2.5 } },
    { id: 3, type: 'succeeded', data: {} },
  ]
  const follow = (headers: Record<string, string>) => fetch(`${url}/jobs/${job.id}/events`, { headers })
  const all = parseEvents(await (await follow({})).text())
  assert.deepEqual(
    all.map(({ id, event }) => `${id} ${event}`),
    ['1 started', '2 progress', '3 succeeded'],
  )
  assert.deepEqual(all[1]?.data, { step: 10, loss: 2.5 })
  const rest = parseEvents(await (await follow({ 'last-event-id': '2' })).text())
  assert.deepEqual(
    rest.map(({ id }) => id),
    ['3'],
  )
  // 204 is what tells a browser not to come back.
  assert.equal((await follow({ 'last-event-id': '3' })).status, 204)
  assert.equal((await follow({ 'last-event-id': 'two' })).status, 400)
  await service.app.close()
})

test('closing ends the streams that are open and does not wait for their clients', async () => {
  const engine = new PatientEngine()
  const service = makeService({ engine })
  const url = await listen(service)
  const { jobId } = (await (
    await fetch(`${url}/prefixes`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ examples }),
    })
  ).json()) as { jobId: string }
  service.queue.history = [{ id: 1, type: 'started', data: {} }]
  const texts = [await generate(url), await fetch(`${url}/jobs/${jobId}/events`)].map((response) => response.text())
  await service.app.close()
  const [generated, job] = await Promise.all(texts)
  assert.deepEqual(
    parseEvents(generated ?? '').map(({ event }) => event),
    ['token', 'error'],
  )
  assert.deepEqual(
    parseEvents(job ?? '').map(({ event }) => event),
    ['started'],
  )
  await engine.whenStopped
})

test('no more streams are open than the limit allows', async () => {
  const engine = new PatientEngine()
  const service = makeService({ engine, limits: { ...defaultHttpLimits, streamsMax: 1 } })
  const url = await listen(service)
  const first = await generate(url)
  const second = await generate(url)
  assert.equal(second.status, 503)
  assert.equal(((await second.json()) as { code: string }).code, 'overloaded')
  const metrics = await (await fetch(`${url}/metrics`)).text()
  assert.ok(metrics.includes('\npreamble_streams_active 1\n'))
  await first.body?.cancel()
  await engine.whenStopped
  await service.app.close()
})

test('a stream that has nothing to say says so, and what comes later still comes', async () => {
  const late = new EventEmitter()
  async function* slow() {
    const [value] = await once(late, 'value')
    yield { id: 7, event: 'late', data: { value } }
  }
  const texts: string[] = []
  for await (const text of encodeEvents(slow(), 1)) {
    texts.push(text)
    if (text.startsWith(':')) late.emit('value', 3)
  }
  assert.deepEqual(texts.filter((text) => text.startsWith(':')).length > 0, true)
  assert.equal(texts.at(-1), 'id: 7\nevent: late\ndata: {"value":3}\n\n')
})

test('line breaks in data stay within one event', async () => {
  const event = { event: 'token', data: { text: 'a\n\nevent: x\r\u2028' } }
  const texts: string[] = []
  for await (const text of encodeEvents(only(event), 1_000)) texts.push(text)
  assert.deepEqual(parseEvents(texts.join('')), [{ id: undefined, ...event }])
})

test('a connection on which nothing was ever asked does not hold up the end', async () => {
  const service = makeService()
  const { port } = new URL(await listen(service))
  const socket = connect({ port: Number(port), host: '127.0.0.1' })
  await Promise.all([once(socket, 'connect'), once(service.app.server, 'connection')])
  const closed = once(socket, 'close')
  await service.app.close()
  await closed
})

// Bodies that are broken, foreign or far too large: an answer each, and a service that stays up.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as openRequest, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { makeService } from './fakes.ts'

const json = { 'content-type': 'application/json' }

function post(payload: string | Buffer, headers: Record<string, string> = json) {
  return makeService().app.inject({ method: 'POST', url: '/generate', headers, payload })
}

test('a body that is not JSON, empty or of another type is refused', async () => {
  for (const payload of ['{"input": ', '', 'input=x']) {
    const response = await post(payload)
    assert.equal(response.statusCode, 400, payload)
    assert.equal(response.json().code, 'invalid_request')
  }
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
    const response = await post('{"input": "x"}', { 'content-type': type })
    assert.equal(response.statusCode, 415, type)
    assert.equal(response.json().code, 'unsupported_media_type')
  }
  assert.equal((await post('[]')).json().errors[0].received, 'a list of 0')
  assert.equal((await post('{"input": "x", "__proto__": {"admin": true}}')).statusCode, 400)
})

test('invalid UTF-8 is refused, naming the byte, and valid UTF-8 is not changed', async () => {
  const broken = Buffer.concat([Buffer.from('{"input": "é'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')])
  const response = await post(broken)
  assert.equal(response.statusCode, 400)
  assert.match(response.json().detail, /not valid UTF-8 \(byte 14: 0x28\)/)
  const cut = await post(Buffer.from([...Buffer.from('{"input": "'), 0xf0, 0x9f]))
  assert.match(cut.json().detail, /its last character is cut/)
  const { app, engine } = makeService()
  await app.inject({ method: 'POST', url: '/generate', payload: { input: 'Café 🍲 \u0000 日本' } })
  assert.deepEqual(engine.requests[0]?.inputs, ['Café 🍲 \u0000 日本'])
})

test('a body that would make an endless list of errors is refused before', async () => {
  const wide = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`f${i}`, i]))
  const cases = [
    [JSON.stringify(wide), /the body has 65 fields, at most 64/],
    [JSON.stringify({ input: Array.from({ length: 100_001 }, () => 1) }), /\/input has 100001 items/],
    [`{"input": ${'['.repeat(1_000)}${']'.repeat(1_000)}}`, /nested more than 8 deep/],
  ] as const
  for (const [payload, detail] of cases) {
    const response = await post(payload)
    assert.equal(response.statusCode, 400)
    assert.match(response.json().detail, detail)
  }
  const many = await post(JSON.stringify({ input: 'x', stop: Array.from({ length: 5_000 }, () => 1) }))
  assert.equal(many.json().errors.length, 100)
  assert.equal(many.json().errorsTotal, 5_001)
})

const chunk = Buffer.alloc(64 * 1024, 'x')
const bodyBytes = 100 * 2 ** 20

/** Sends until it is answered, the connection is gone or the body is over; counts what was sent. */
async function sendLarge(port: number, headers: Record<string, string>) {
  const request = openRequest({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/prefixes',
    headers: { ...json, ...headers },
  })
  const answered = once(request, 'response') as Promise<[IncomingMessage]>
  let sent = 0
  const send = (): void => {
    while (sent < bodyBytes && !request.destroyed) {
      sent += chunk.length
      if (!request.write(chunk)) return
    }
  }
  request.on('drain', send)
  send()
  const [response] = await answered
  request.off('drain', send)
  request.on('error', () => {}) // The other side closes while we would still send.
  const chunks: Buffer[] = []
  for await (const piece of response) chunks.push(piece as Buffer)
  request.destroy()
  return { status: response.statusCode, problem: JSON.parse(Buffer.concat(chunks).toString()), sent }
}

test('a body of 100 MB is answered 413 long before it is over, told beforehand or not', async () => {
  const { app } = makeService()
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  for (const headers of [{ 'content-length': String(bodyBytes) }, { 'transfer-encoding': 'chunked' }]) {
    for (let round = 0; round < 3; round++) {
      const { status, problem, sent } = await sendLarge(port, headers)
      assert.equal(status, 413)
      assert.equal(problem.code, 'body_too_large')
      assert.ok(sent < bodyBytes, `all ${sent} bytes were read`)
    }
  }
  assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200)
  await app.close()
})

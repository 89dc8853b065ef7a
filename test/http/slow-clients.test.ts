// Clients that do not behave: one that stops reading, one that closes its sending side in the middle of an answer.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { test } from 'node:test'
import type { GenerateEvent, GenerateRequest } from '../../src/engine/request.ts'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { makeService, runtime, type Service } from './fakes.ts'

const pieceCharacters = 65_536

/** Makes large pieces as long as somebody takes them; tells when it was stopped. */
class EagerEngine {
  pieces = 0
  stopped: () => void = () => {}
  readonly whenStopped = new Promise<void>((resolve) => (this.stopped = resolve))

  async *generate(_request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    signal.addEventListener('abort', () => this.stopped())
    for (; !signal.aborted; this.pieces++) yield { type: 'token', index: 0, text: 'x'.repeat(pieceCharacters) }
  }

  ready(): Promise<{ runtime: typeof runtime }> {
    return Promise.resolve({ runtime })
  }
}

/** Says nothing at all until it is stopped. */
class SilentEngine extends EagerEngine {
  // oxlint-disable-next-line require-yield
  override async *generate(_request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    this.stopped()
  }
}

async function ask({ app }: Service, stream: boolean): Promise<Socket> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  // Half open, so that it is the service that decides what an end means.
  const socket = connect({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  const body = JSON.stringify({ input: 'x', stream })
  const head = 'POST /generate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: '
  socket.write(`${head}${body.length}\r\n\r\n${body}`)
  return socket
}

/** What the system's buffers on the way may swallow, twice over. */
const onTheWayBytesMax = 64 * 2 ** 20

test('a client that stops reading stops its generation, at first for want of room and then for good', async () => {
  const engine = new EagerEngine()
  const service = makeService({ engine, limits: { ...defaultHttpLimits, stalledMsMax: 200 } })
  const socket = await ask(service, true)
  socket.pause()
  socket.on('error', () => {}) // It is cut off.
  await engine.whenStopped
  const bytes = engine.pieces * pieceCharacters
  assert.ok(bytes > 0 && bytes < onTheWayBytesMax, `${bytes} bytes were made for a client that reads none`)
  socket.destroy()
  await service.app.close()
})

test('a client that goes on reading keeps its stream, however much comes', async () => {
  const engine = new EagerEngine()
  const service = makeService({ engine, limits: { ...defaultHttpLimits, stalledMsMax: 1_000 } })
  const socket = await ask(service, true)
  let taken = 0
  // More than the buffers on the way, so that all of it is not there at once.
  for await (const chunk of socket) {
    taken += (chunk as Buffer).length
    if (taken > onTheWayBytesMax) break
  }
  assert.ok(taken > onTheWayBytesMax, `the stream ended after ${taken} bytes`)
  await engine.whenStopped
  await service.app.close()
})

for (const stream of [true, false]) {
  test(`closing the sending side counts as leaving ${stream ? 'a stream' : 'an answer'}`, async () => {
    const engine = new SilentEngine()
    const service = makeService({ engine })
    const arrived = new Promise((resolve) => service.app.server.once('request', resolve))
    const socket = await ask(service, stream)
    await arrived
    socket.end()
    await engine.whenStopped
    assert.ok(!service.log.some((line) => (JSON.parse(line) as { level: number }).level >= 50))
    socket.destroy()
    await service.app.close()
  })
}

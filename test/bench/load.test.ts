// The load bench: what its clients ask for, what they take for an answer, and what they count.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { exchange, type Exchange } from '../../bench/load/exchange.ts'
import { drawRequest, type LoadRequest, requestOptions } from '../../bench/load/requests.ts'
import { Tally } from '../../bench/load/tally.ts'
import { quantile } from '../../bench/machine.ts'
import { Random } from '../../src/random/random.ts'

const options = await requestOptions(['p0', 'p1', 'p2'], { positionsMax: 256, prefixLength: 10 })

test('requests are drawn from the seed: half of them streamed, one in twenty left, none longer than the model', () => {
  const draw = (seed: number): LoadRequest[] => {
    const random = new Random(seed)
    return Array.from({ length: 2_000 }, () => drawRequest(random, options, []))
  }
  const requests = draw(3)
  assert.deepEqual(draw(3), requests)
  const share = (which: (request: LoadRequest) => boolean): number => requests.filter(which).length / requests.length
  assert.ok(Math.abs(share(({ body }) => body.stream) - 0.5) < 0.05)
  assert.ok(Math.abs(share(({ leavesAfter }) => leavesAfter !== null) - 0.05) < 0.02)
  assert.equal(new Set(requests.map(({ body }) => body.prefix)).size, 3)
  for (const { body } of requests) {
    const longest = Math.max(...[body.input].flat().map(({ length }) => length))
    assert.ok(10 + longest + body.maxNewTokens < 256)
  }
})

const request = (stream: boolean): LoadRequest => ({
  body: { prefix: 'p', input: 'x', maxNewTokens: 2, stream },
  leavesAfter: null,
  control: null,
})

async function answeredBy(listener: RequestListener, stream: boolean): Promise<Exchange> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/generate`)
  const came = await exchange(url, new Agent(), request(stream))
  server.close()
  return came
}

const answer = (tokens: number, counted = tokens): string =>
  JSON.stringify({ outputs: [{ text: 'ab', finishReason: 'length', tokens }], usage: { outputTokens: counted } })
const event = (name: string, data: string): string => `event: ${name}\ndata: ${data}\n\n`
const piece = (text: string): string => event('token', JSON.stringify({ index: 0, text }))

for (const [what, listener, stream, end] of [
  ['a whole answer', (_, response) => response.end(answer(2)), false, 'answered'],
  ['a miscounted answer', (_, response) => response.end(answer(2, 3)), false, 'failed'],
  ['an answer that is too long', (_, response) => response.end(answer(3)), false, 'failed'],
  ['a status of failure', (_, response) => response.writeHead(500).end('x'), false, 'failed'],
  [
    '503 with a time to wait',
    (_, response) => response.writeHead(503, { 'retry-after': '1' }).end(),
    false,
    'overloaded',
  ],
  ['503 without one', (_, response) => response.writeHead(503).end(), false, 'failed'],
  ['a connection cut off', (_, response) => response.destroy(), false, 'failed'],
  [
    'a whole stream',
    (_, response) => response.end(piece('a') + piece('b') + event('done', answer(2))),
    true,
    'answered',
  ],
  [
    'a stream with a piece missing',
    (_, response) => response.end(piece('a') + event('done', answer(2))),
    true,
    'failed',
  ],
  ['a stream without an end', (_, response) => response.end(piece('a')), true, 'failed'],
  ['a stream that ends with an error', (_, response) => response.end(event('error', '{}')), true, 'failed'],
] as const satisfies readonly [string, RequestListener, boolean, Exchange['end']][]) {
  test(`${what} is ${end}`, async () => {
    const came = await answeredBy(listener, stream)
    assert.equal(came.end, end, JSON.stringify(came))
  })
}

test('the tally has rates and percentiles of what was answered, and keeps why others failed', () => {
  const tally = new Tally()
  const outputs = [{ text: 'ab', tokens: 2 }]
  for (const wholeMs of [30, 10, 20, 40]) {
    const times = { wholeMs, piecesMs: [wholeMs / 2, wholeMs / 2 + 1] }
    tally.count({ end: 'answered', answer: { outputs, usage: { outputTokens: 2 } }, times })
  }
  tally.count({ end: 'left' })
  tally.count({ end: 'failed', why: 'so' })
  const figures = tally.figures(2)
  assert.deepEqual([figures['answered'], figures['left'], figures['failed']], [4, 1, 1])
  assert.deepEqual([figures['requestsPerSecond'], figures['tokensPerSecond']], [2, 4])
  assert.deepEqual([figures['wholeMsP50'], figures['wholeMsMax'], figures['firstMsP50']], [20, 40, 10])
  assert.equal(figures['betweenMsP99'], 1)
  assert.deepEqual(tally.failures, ['so'])
})

test('a quantile is a value that was there', () => {
  const sorted = [1, 2, 3, 4]
  assert.deepEqual([quantile(sorted, 0.5), quantile(sorted, 0.51), quantile(sorted, 1)], [2, 3, 4])
})

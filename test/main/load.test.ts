// The whole service under many clients at once: nobody fails, what is greedy stays the same, and all rows are free again.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { type Answer, exchange, type Exchange } from '../../bench/load/exchange.ts'
import {
  controlBodies,
  drawRequest,
  type LoadBody,
  requestOptions,
  type RequestOptions,
} from '../../bench/load/requests.ts'
import { storePrefixes } from '../../bench/stored-prefixes.ts'
import { openModel } from '../../src/model/model.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { forkSeed, Random } from '../../src/random/random.ts'
import { openStore } from '../../src/store/open.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'
import { startProcess, type ServiceProcess } from './process.ts'

const prefixLength = 10
const rowsMax = 8
const waitingMax = 256

let folder: string
let service: ServiceProcess
let url: URL
let options: RequestOptions
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-load-'))
  const [model, tokenizer] = [await openModel('model'), await openTokenizer('model')]
  const registry = new PrefixRegistry(await openStore(path.join(folder, 'store')))
  const prefixes = await storePrefixes(registry, model, tokenizer, { count: 12, prefixLength, seed: 1 })
  const { positionsMax } = model.config
  options = {
    ...(await requestOptions(prefixes, { positionsMax, prefixLength })),
    leaveShare: 0.3,
    charactersMax: 80,
    newTokensMax: 16,
  }
  const sizes = { ROWS_MAX: String(rowsMax), WAITING_MAX: String(waitingMax) }
  service = await startProcess({ DATA: folder, ...sizes })
  url = new URL('/generate', service.address)
})
after(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

const ask = (agent: Agent, body: LoadBody): Promise<Exchange> =>
  exchange(url, agent, { body, leavesAfter: null, control: null })

/** The answer, or a failed test that says what came instead. */
function answerOf(came: Exchange, hint: string): Answer {
  return came.end === 'answered' ? came.answer : assert.fail(`${JSON.stringify(came)}, ${hint}`)
}

const textsOf = ({ outputs }: Answer): string[] => outputs.map(({ text }) => text)

test('32 clients with mixed requests, of whom many leave, all get what they ask for, and greedy texts are those of one alone', async () => {
  const seed = Number(process.env['SEED'] ?? 17)
  const hint = `SEED=${seed}`
  const alone = new Agent()
  const controls = controlBodies(options)
  const expected: string[][] = []
  for (const body of controls) expected.push(textsOf(answerOf(await ask(alone, body), hint)))

  const agent = new Agent({ keepAlive: true })
  let left = 0
  const client = async (number: number): Promise<void> => {
    const random = new Random(forkSeed(seed, number))
    for (let i = 0; i < 2; i++) {
      const came = await exchange(url, agent, drawRequest(random, options, []))
      if (came.end === 'left') left++
      else answerOf(came, hint)
    }
    const control = number % controls.length
    assert.deepEqual(textsOf(answerOf(await ask(agent, controls[control] as LoadBody), hint)), expected[control], hint)
  }
  await Promise.all(Array.from({ length: 32 }, (_, number) => client(number)))
  agent.destroy()
  assert.ok(left > 5, `${left} left, ${hint}`)
})

test('afterwards the whole line and all rows can be had at once', async () => {
  const agent = new Agent()
  const prefix = options.prefixes[0] as string
  // A request that makes as many texts as can wait is refused while anybody else has a place.
  const line = { prefix, input: Array.from({ length: waitingMax }, () => 'a'), maxNewTokens: 1, stream: false }
  assert.equal(answerOf(await ask(agent, line), 'a place in line was not given back').outputs.length, waitingMax)

  // As hot as it gets, lest one ends early.
  const decoding = { strategy: 'sample', temperature: 10 }
  const startMs = performance.now()
  const streams = await Promise.all(
    Array.from({ length: rowsMax }, async (_, seed) => {
      const came = await ask(agent, { prefix, input: 'a', maxNewTokens: 100, stream: true, decoding, seed })
      const endMs = performance.now() - startMs
      if (came.end !== 'answered') assert.fail(JSON.stringify(came))
      return { firstMs: came.times.piecesMs[0] as number, endMs }
    }),
  )
  const lastFirst = Math.max(...streams.map(({ firstMs }) => firstMs))
  const firstEnd = Math.min(...streams.map(({ endMs }) => endMs))
  assert.ok(lastFirst < firstEnd, `one began ${lastFirst} ms after the start, another had ended at ${firstEnd}`)
  const metrics = await (await fetch(`${service.address}/metrics`)).text()
  assert.match(metrics, /^preamble_streams_active 0$/m)
})

test('200 connections at once are all answered', async () => {
  const agent = new Agent({ maxSockets: Infinity })
  const body = { prefix: options.prefixes[1] as string, input: 'name : The Swan', maxNewTokens: 2, stream: false }
  const answers = Array.from({ length: 200 }, () => ask(agent, body))
  assert.equal(Object.values(agent.sockets).flat().length, 200)
  const texts = (await Promise.all(answers)).map((came) => textsOf(answerOf(came, 'of 200'))[0])
  assert.equal(new Set(texts).size, 1)
})

test('SIGTERM in the middle of streams ends each with cancelled, finishes other answers, and the process ends well', async () => {
  const post = async (body: object): Promise<Response> => {
    const headers = { 'content-type': 'application/json' }
    return fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
  }
  const [prefix] = options.prefixes
  const decoding = { strategy: 'sample', temperature: 10 }
  const long = { prefix, input: 'a', maxNewTokens: 200, decoding, seed: 5 }
  const whole = post({ ...long, seed: 1 })
  const streams = await Promise.all(
    Array.from({ length: rowsMax - 1 }, async (_, seed) => {
      const reader = ((await post({ ...long, seed, stream: true })).body as ReadableStream<Uint8Array>)
        .pipeThrough(new TextDecoderStream())
        .getReader()
      let text = ''
      while (!text.includes('event: token')) text += (await reader.read()).value ?? ''
      return { reader, text }
    }),
  )
  const ended = once(service.child, 'exit')
  service.child.kill('SIGTERM')
  for (const { reader, text } of streams) {
    let rest = text
    for (let next = await reader.read(); !next.done; next = await reader.read()) rest += next.value
    assert.match(rest, /event: error\ndata: \{[^\n]*"code":"cancelled"[^\n]*\}\n\n$/)
  }
  const answer = await whole
  assert.equal(answer.status, 200)
  assert.equal(((await answer.json()) as Answer).outputs.length, 1)
  assert.deepEqual(await ended, [0, null])
})

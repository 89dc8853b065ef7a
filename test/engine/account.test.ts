// Accounts of requests and figures of steps: what is counted is what was made, however a request ends.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultClientOptions, EngineClient } from '../../src/engine/client.ts'
import { inThread } from '../../src/engine/worker-place.ts'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import type { Step } from '../../src/engine/observer.ts'
import { StepFigures } from '../../src/engine/step-figures.ts'
import type { Account } from '../../src/engine/stopwatch.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, deferred, request, testPrefix } from './requests.ts'
import { hold, makeEngine, settled } from './setup.ts'

const never = new AbortController().signal

test('an account has the tokens of the answer, and its times are in order', async () => {
  const { engine } = makeEngine()
  const accounts: Account[] = []
  const asked = request({ prefixId: 'p1', inputs: ['abc', 'defgh'] })
  const { usage } = await collect(engine.generate(asked, never, (account) => accounts.push(account)))
  const [account] = accounts as [Account]
  assert.equal(accounts.length, 1)
  assert.deepEqual([account.inputTokens, account.outputTokens], [usage.inputTokens, usage.outputTokens])
  const { askedMs, lease, queuedMs, startedMs, firstTokenMs, endedMs } = account
  const times = [askedMs, lease?.startMs, lease?.endMs, queuedMs, startedMs, firstTokenMs, endedMs] as number[]
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  )
  assert.ok(account.tokenMs !== null && account.tokenMs >= 0)
})

test('the first use of a prefix is a miss, the next one a hit', async () => {
  const { engine } = makeEngine()
  const hits: (boolean | undefined)[] = []
  for (const prefixId of ['p1', 'p1', null, 'p2', 'p1']) {
    await collect(engine.generate(request({ prefixId }), never, ({ lease }) => hits.push(lease?.hit)))
  }
  assert.deepEqual(hits, [false, true, undefined, false, true])
})

test('whoever leaves has the tokens made so far in the account, and whoever is refused has none', async () => {
  const { engine, session } = makeEngine()
  const abort = new AbortController()
  const accounts: Account[] = []
  const events = engine.generate(request({ maxNewTokens: 50 }), abort.signal, (account) => accounts.push(account))
  await events.next()
  const { reached, open } = hold(session)
  await reached
  abort.abort()
  open()
  await assert.rejects(async () => {
    for await (const _ of events) continue
  })
  await settled(engine)
  assert.ok((accounts[0]?.outputTokens ?? 0) >= 1)
  assert.ok((accounts[0]?.outputTokens ?? 0) < 50)
  const none = request({ prefixId: 'nobody' })
  await assert.rejects(collect(engine.generate(none, never, (account) => accounts.push(account))))
  assert.deepEqual([accounts[1]?.outputTokens, accounts[1]?.queuedMs, accounts[1]?.lease], [0, null, null])
})

test('steps tell their phase, rows and prompt tokens; sums are what the requests had', async () => {
  const steps: Step[] = []
  const session = new FakeSession(257)
  const loadPrefix = () => Promise.resolve(testPrefix(1))
  const observer = { stepped: (step: Step) => void steps.push(step) }
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits, observer })
  const usages = await Promise.all(
    ['ab', 'cdef', 'ghijkl'].map(
      async (input) => (await collect(engine.generate(request({ inputs: [input] }), never))).usage,
    ),
  )
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, each) => all + each, 0)
  assert.equal(sum(steps.map(({ promptTokens }) => promptTokens)), sum(usages.map(({ inputTokens }) => inputTokens)))
  assert.ok(steps.every(({ phase, promptTokens }) => (phase === 'decode') === (promptTokens === 0)))
  assert.ok(steps.every(({ rows, seconds }) => rows >= 1 && rows <= fakeLayout.rowsMax && seconds >= 0))
  assert.equal(steps.length, session.calls.length)
})

test('the figures of the engine say how full it is now, and nothing runs at rest', async () => {
  const session = new FakeSession(257)
  const loadPrefix = () => Promise.resolve(testPrefix(1))
  const figures: StepFigures = new StepFigures(() => engine.state)
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits, observer: figures })
  const { reached, open } = hold(session)
  const rows = fakeLayout.rowsMax
  // Of different beginnings, so that none is spared its prompt by another.
  const inputs = Array.from({ length: rows + 2 }, (_, i) => `${String.fromCharCode(97 + i)}b`)
  const running = collect(engine.generate(request({ prefixId: 'p1', inputs }), never))
  await reached
  const busy = await valuesOf(figures)
  assert.equal(busy['preamble_sequences_running'], rows)
  assert.equal(busy['preamble_sequences_waiting'], 2)
  assert.equal(busy['preamble_prefix_pool_prefixes'], 1)
  assert.equal(
    busy['preamble_cache_share'],
    (busy['preamble_cache_positions'] ?? NaN) / (rows * fakeLayout.positionsMax),
  )
  open()
  const { usage } = await running
  await settled(engine)
  const rest = await valuesOf(figures)
  for (const name of ['sequences_running', 'sequences_waiting', 'cache_positions', 'batch_size', 'step_prompt_tokens'])
    assert.equal(rest[`preamble_${name}`], 0, name)
  assert.equal(rest['preamble_prompt_tokens_total'], usage.inputTokens)
  assert.equal(rest['preamble_prefix_pool_bytes'], testPrefix(1).keys.byteLength * 2)
})

test('a prefix that makes room for another is counted as let go', async () => {
  const bytes = testPrefix(1).keys.byteLength * 2
  const { engine } = makeEngine({ prefixBytesMax: bytes * 2 })
  for (const prefixId of ['p1', 'p2', 'p1']) await collect(engine.generate(request({ prefixId }), never))
  assert.equal(engine.state.evictions, 2)
})

test('accounts come across the thread: with the end, after leaving, and null where the thread died', async () => {
  await withClient(async (client) => {
    const accounts: (Account | null)[] = []
    const keep = (account: Account | null): void => void accounts.push(account)
    const { usage } = await collect(client.generate(request({ prefixId: 'good' }), never, keep))
    assert.deepEqual([accounts.length, accounts[0]?.outputTokens], [1, usage.outputTokens])

    const abort = new AbortController()
    const left = deferred()
    const events = client.generate(
      request({ maxNewTokens: 900_000, minNewTokens: 900_000 }),
      abort.signal,
      (account) => {
        keep(account)
        left.resolve()
      },
    )
    await events.next()
    abort.abort()
    await assert.rejects(events.next().then(() => events.next()))
    await left.promise
    assert.ok((accounts[1]?.outputTokens ?? 0) >= 1)

    const running = client.generate(request({ maxNewTokens: 900_000, minNewTokens: 900_000 }), never, keep)
    await running.next()
    await assert.rejects(collect(client.generate(request({ prefixId: 'exit' }), never, keep)))
    await assert.rejects(collect(running))
    assert.deepEqual(accounts.slice(2), [null, null])
    await assert.rejects(collect(client.generate(request({ prefixId: 'gone' }), never, keep)))
    assert.equal(accounts.length, 5)
  })
})

test('figures are asked of the thread, and are empty when it is closed', async () => {
  await withClient(async (client) => {
    await client.ready()
    assert.equal(await client.figures(), '# figures of the worker\n')
    await client.close()
    assert.equal(await client.figures(), '')
  })
})

async function withClient(use: (client: EngineClient) => Promise<void>): Promise<void> {
  const entry = new URL('./client-worker.js', import.meta.url)
  const client = new EngineClient(inThread(entry, 'works'), defaultClientOptions)
  try {
    await use(client)
  } finally {
    await client.close()
  }
}

/** Values of series that have no labels. */
async function valuesOf(figures: StepFigures): Promise<Record<string, number>> {
  const lines = (await figures.text()).split('\n').filter((line) => /^preamble_\w+ /.test(line))
  return Object.fromEntries(lines.map((line) => line.split(' ')).map(([name, value]) => [name, Number(value)]))
}

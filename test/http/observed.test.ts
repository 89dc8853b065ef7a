// What is seen from outside: figures of each prefix, one line in the log for each request, spans, and no text of users in any.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import type { EngineFront } from '../../src/http/parts.ts'
import { openTracing, type Tracing } from '../../src/tracing/tracing.ts'
import { FakeSession } from '../engine/fake-session.ts'
import { byteTokenizer } from '../engine/fake-tokenizer.ts'
import { testPrefix } from '../engine/requests.ts'
import { type Collector, startCollector } from '../tracing/collector.ts'
import { addReadyPrefix, examples, makeService, runtime, type Service } from './fakes.ts'

/** Stands in everything that a user may write. */
const marker = 'ZANZIBAR'

let collector: Collector
let tracing: Tracing
before(async () => {
  collector = await startCollector()
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = collector.address
  tracing = await openTracing(process.env, assert.fail)
})
after(async () => {
  await tracing.close()
  collector.close()
})

interface Observed extends Service {
  readonly session: FakeSession
  readonly prefixId: string
}

/** The service over a real engine whose model is made up. */
async function observed(): Promise<Observed> {
  const session = new FakeSession(257)
  const loadPrefix = () => Promise.resolve(testPrefix(1))
  const real = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits })
  const engine: EngineFront = {
    generate: (...asked) => real.generate(...asked),
    ready: () => Promise.resolve({ runtime }),
    figures: () => Promise.resolve('preamble_of_the_engine 1\n'),
  }
  const service = makeService({ engine, tracing })
  const { id } = await addReadyPrefix(service)
  return { ...service, session, prefixId: id }
}

async function generate(app: FastifyInstance, payload: object, headers: Record<string, string> = {}) {
  return app.inject({ method: 'POST', url: '/generate', payload: { maxNewTokens: 8, ...payload }, headers })
}

/** Value of the series `name{labels}`; null where there is none. */
async function figure({ app }: Pick<Service, 'app'>, series: string): Promise<number | null> {
  const { body } = await app.inject('/metrics')
  const line = body.split('\n').find((each) => each.startsWith(`${series} `))
  return line === undefined ? null : Number(line.slice(series.length))
}

test('a prefix is counted with exactly the tokens that were billed', async () => {
  const service = await observed()
  const { app, prefixId } = service
  const billed = { inputTokens: 0, outputTokens: 0 }
  for (const input of ['ab', ['cd', 'efghi'], 'j']) {
    const { usage } = (await generate(app, { prefix: 'e2e', input })).json()
    billed.inputTokens += usage.inputTokens
    billed.outputTokens += usage.outputTokens
  }
  const stream = await generate(app, { prefix: 'e2e', input: 'streamed', stream: true })
  const { usage } = JSON.parse(/event: done\ndata: (.*)/.exec(stream.body)?.[1] ?? '')
  billed.inputTokens += usage.inputTokens
  billed.outputTokens += usage.outputTokens
  const label = `{prefix="${prefixId}"}`
  assert.equal(await figure(service, `preamble_prefix_input_tokens_total${label}`), billed.inputTokens)
  assert.equal(await figure(service, `preamble_prefix_output_tokens_total${label}`), billed.outputTokens)
  assert.equal(await figure(service, `preamble_prefix_requests_total{prefix="${prefixId}",outcome="done"}`), 4)
  assert.equal(await figure(service, `preamble_prefix_pool_misses_total${label}`), 1)
  assert.equal(await figure(service, `preamble_prefix_pool_hits_total${label}`), 3)
  for (const what of ['first_token', 'request', 'token'])
    assert.equal(await figure(service, `preamble_prefix_${what}_seconds_count${label}`), 4, what)
  assert.equal(await figure(service, `preamble_prefix_load_seconds_count${label}`), 1)
  assert.equal(await figure(service, 'preamble_queue_wait_seconds_count'), 4)
  assert.equal(await figure(service, 'preamble_of_the_engine'), 1)
})

test('the bare model is "none", what is refused is told apart, and a deleted prefix loses its series', async () => {
  const service = await observed()
  const { app, prefixId } = service
  await generate(app, { input: 'ab' })
  await generate(app, { prefix: 'e2e', input: 'x'.repeat(100) })
  await generate(app, { prefix: 'e2e', input: 'ab' })
  assert.equal(await figure(service, 'preamble_prefix_requests_total{prefix="none",outcome="done"}'), 1)
  assert.equal(await figure(service, `preamble_prefix_requests_total{prefix="${prefixId}",outcome="refused"}`), 1)
  assert.equal(await figure(service, 'preamble_prefixes_named'), 1)
  await app.inject({ method: 'DELETE', url: '/prefixes/e2e' })
  assert.ok(!(await app.inject('/metrics')).body.includes(prefixId))
})

test('a generation is told in the one line of its request', async () => {
  const { app, log, prefixId } = await observed()
  const { usage } = (await generate(app, { prefix: 'e2e', input: 'ab' })).json()
  assert.equal(log.length, 1)
  const line = JSON.parse(log[0] ?? '')
  assert.deepEqual(
    [line.route, line.status, line.prefix, line.outcome, line.inputTokens, line.outputTokens],
    ['/generate', 200, prefixId, 'done', usage.inputTokens, usage.outputTokens],
  )
  for (const name of ['loadMs', 'queueMs', 'prefillMs', 'decodeMs']) assert.ok(line[name] >= 0, name)
  await generate(app, { prefix: 'e2e', input: 'ab', stream: true })
  assert.equal(JSON.parse(log[1] ?? '').outcome, 'done')
  await generate(app, { prefix: 'e2e', input: 'x'.repeat(100) })
  assert.deepEqual([JSON.parse(log[2] ?? '').status, JSON.parse(log[2] ?? '').outcome], [422, 'refused'])
})

test('a client that leaves has its line too, with the tokens made until then', { timeout: 20_000 }, async () => {
  const service = await observed()
  const { app, log, session, prefixId } = service
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const abort = new AbortController()
  const sent = fetch(`${address}/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prefix: 'e2e', input: 'ab', maxNewTokens: 40 }),
    signal: abort.signal,
  })
  sent.catch(() => {})
  const gone = new Promise<void>((resolve) => app.server.once('connection', (socket) => socket.once('close', resolve)))
  // The fifth call of the model waits until the client has gone.
  session.beforeExtend = async () => {
    if (session.calls.length !== 4) return
    abort.abort()
    await gone
  }
  await assert.rejects(sent)
  // The line waits for what the engine says of the request.
  const requests = () => log.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'request')
  while (requests().length === 0) await nextTurn()
  await app.close()
  const lines = requests()
  assert.equal(lines.length, 1)
  const [{ status, outcome, outputTokens, prefix }] = lines
  assert.deepEqual([status, outcome, prefix], ['aborted', 'cancelled', prefixId])
  assert.ok(outputTokens >= 4 && outputTokens < 40, `${outputTokens} tokens`)
})

test('a generation is a span under its request, which is under that of the client, and its stages are under it', async () => {
  const { app, log, prefixId } = await observed()
  const [traceId, client] = ['1af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const traceparent = `00-${traceId}-${client}-01`
  const { usage } = (await generate(app, { prefix: 'e2e', input: 'ab', seed: 3 }, { traceparent })).json()
  await tracing.flush()
  const spans = collector.spans.filter((span) => span.traceId === traceId)
  const of = (name: string) => spans.find((span) => span.name === name) ?? assert.fail(`${name} is missing`)
  const http = of('POST /generate')
  const made = of(`text_completion ${prefixId}`)
  assert.deepEqual([http.parentSpanId, http.kind, http.attributes['http.response.status_code']], [client, 2, 200])
  assert.equal(http.attributes['http.route'], '/generate')
  assert.equal(JSON.parse(log[0] ?? '').traceId, traceId)
  assert.equal(made.parentSpanId, http.spanId)
  const { attributes } = made
  assert.deepEqual(
    [attributes['gen_ai.usage.input_tokens'], attributes['gen_ai.usage.output_tokens']],
    [usage.inputTokens, usage.outputTokens],
  )
  assert.deepEqual([attributes['gen_ai.request.model'], attributes['gen_ai.request.max_tokens']], [prefixId, 8])
  const stages = ['prefix_load', 'queue', 'prefill', 'decode'].map(of)
  for (const stage of stages) {
    assert.equal(stage.parentSpanId, made.spanId)
    assert.ok(stage.startNs <= stage.endNs && stage.endNs <= made.endNs, stage.name)
  }
  assert.deepEqual(
    stages,
    stages.toSorted((a, b) => Number(a.startNs - b.startNs)),
  )
})

test('a job carries the span that asked for it', async () => {
  const { app, queue } = await observed()
  const traceparent = '00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const payload = { examples, validation: 0 }
  await app.inject({ method: 'POST', url: '/prefixes', payload, headers: { traceparent } })
  const [data] = queue.data.values()
  assert.match(data?.traceparent ?? '', /^00-2af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/)
  const untraced = makeService()
  await untraced.app.inject({ method: 'POST', url: '/prefixes', payload })
  assert.ok(!('traceparent' in ([...untraced.queue.data.values()][0] ?? {})))
})

test('no text of users stands in logs, figures or spans, whatever goes wrong', async () => {
  const { app, log, session } = await observed()
  const bodies: object[] = [
    { input: marker, prefix: 'e2e' },
    { input: marker, stream: true },
    { input: [marker, marker.repeat(20)] },
    { input: 'a', stop: [marker] },
    { input: 'a', prefix: marker },
    { input: 'a', [marker]: 1 },
    { input: 'a', decoding: { strategy: marker } },
  ]
  for (const body of bodies) await generate(app, body)
  session.beforeExtend = () => assert.fail('the model fails')
  await generate(app, { input: marker })
  await app.inject({
    method: 'POST',
    url: '/generate',
    payload: `{"${marker}`,
    headers: { 'content-type': 'application/json' },
  })
  await app.inject(`/${marker}?${marker}=${marker}`)
  await app.inject(`/prefixes/${marker}`)
  const texts = { input: marker, output: marker }
  await app.inject({
    method: 'POST',
    url: '/prefixes',
    payload: { examples: [texts], validation: 0, template: `${marker}{input}` },
  })
  await app.inject({ method: 'POST', url: '/prefixes/e2e/evaluations', payload: { examples: [texts] } })
  const { body: metrics } = await app.inject('/metrics')
  await tracing.flush()
  assert.ok(log.length > bodies.length && collector.texts.length > 0)
  for (const [where, text] of Object.entries({ log: log.join(''), metrics, spans: collector.texts.join('') }))
    assert.ok(!text.toUpperCase().includes(marker), `a user's text stands in the ${where}`)
})

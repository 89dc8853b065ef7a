// Tracing by itself: off unless it is configured, refused where it is configured wrongly, and W3C contexts in and out.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { noTracing, openTracing } from '../../src/tracing/tracing.ts'
import { serviceError } from '../engine/requests.ts'
import { startCollector } from './collector.ts'

const endpoint = 'http://127.0.0.1:4318'
const heard = (): void => {}

test('nothing is traced unless a collector is named, and not where that is switched off', async () => {
  for (const env of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SDK_DISABLED: 'true' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: 'none' },
  ]) {
    assert.equal(await openTracing(env, heard), noTracing, JSON.stringify(env))
  }
  const span = noTracing.start('x', {}).child('y')
  span.end()
  assert.deepEqual([span.traceparent, span.traceId], [null, null])
})

test('a protocol, an exporter and an address that it cannot send to are refused by name', async () => {
  for (const [variable, value] of [
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc'],
    ['OTEL_TRACES_EXPORTER', 'zipkin'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
  ] as const) {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, [variable]: value }
    await assert.rejects(openTracing(env, heard), serviceError('config_invalid', variable), variable)
  }
})

test('without a collector none of its packages is loaded', () => {
  const source = `
    const { openTracing } = await import('./dist/src/tracing/tracing.js')
    await openTracing(JSON.parse(process.argv[1]), () => {})
    const { createRequire } = await import('node:module')
    const loaded = Object.keys(createRequire(process.cwd() + '/').cache).filter((file) => file.includes('@opentelemetry'))
    process.stdout.write(JSON.stringify(loaded))`
  const loadedWith = (env: object): string[] => {
    const args = ['--input-type=module', '-e', source, JSON.stringify(env)]
    return JSON.parse(spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout) as string[]
  }
  assert.deepEqual(loadedWith({}), [])
  assert.ok(loadedWith({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }).length > 10)
})

test('a span takes its parent from the headers, gives its own to a child elsewhere, and arrives', async () => {
  const collector = await startCollector()
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = collector.address
  const tracing = await openTracing(process.env, heard)
  const [traceId, parent] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const span = tracing.start('outer', { traceparent: `00-${traceId}-${parent}-01` }, { kind: 'server' })
  assert.match(span.traceparent ?? '', new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`))
  span
    .child('inner', { startMs: 1_700_000_000_000.5, attributes: { words: ['a', 'b'] } })
    .end({ endMs: 1_700_000_001_000.5, error: 'oops' })
  span.end()
  tracing.start('alone', { traceparent: 'nonsense' }).end()
  tracing.start('unwanted', { traceparent: `00-${traceId}-${parent}-00` }).end()
  await tracing.flush()
  const [outer, inner, alone] = [
    await collector.named('outer'),
    await collector.named('inner'),
    await collector.named('alone'),
  ]
  assert.deepEqual([outer.traceId, outer.parentSpanId, outer.kind, outer.service], [traceId, parent, 2, 'preamble'])
  assert.deepEqual([inner.traceId, inner.parentSpanId, inner.status.code], [traceId, outer.spanId, 2])
  assert.deepEqual(inner.attributes, { words: ['a', 'b'], 'error.type': 'oops' })
  assert.deepEqual([inner.startNs, inner.endNs], [1_700_000_000_000_500_000n, 1_700_000_001_000_500_000n])
  assert.notEqual(alone.traceId, traceId)
  assert.equal(alone.parentSpanId ?? '', '')
  assert.ok(!collector.spans.some(({ name }) => name === 'unwanted'), 'whoever asked did not want it to be traced')
  await tracing.close()
  collector.close()
})

test('a collector that is away holds nothing up', { timeout: 20_000 }, async () => {
  const collector = await startCollector()
  collector.close()
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = collector.address
  const tracing = await openTracing(process.env, heard)
  tracing.start('lost', {}).end()
  await tracing.flush()
  await tracing.close()
  assert.deepEqual(collector.texts, [])
})

// The whole service with a collector beside it: a training and a generation as spans and figures, and no text of users in any.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { startCollector } from '../tracing/collector.ts'
import { startProcess, waitForJob } from './process.ts'

const marker = 'Zanzibar'
const traceId = '6af7651916cd43dd8448eb211c80319c'
const traceparent = `00-${traceId}-b7ad6b7169203331-01`

test('a training and a generation are traced from their requests to their ends, and counted', async () => {
  const collector = await startCollector()
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-observed-'))
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.address, OTEL_BSP_SCHEDULE_DELAY: '100' }
  const service = await startProcess({ DATA: folder, ...env })
  let logged = ''
  service.child.stdout?.on('data', (bytes: Buffer) => (logged += bytes.toString()))
  service.child.stderr?.on('data', (bytes: Buffer) => (logged += bytes.toString()))
  const post = async (url: string, body: object) => {
    const headers = { 'content-type': 'application/json', traceparent }
    return (await fetch(service.address + url, { method: 'POST', headers, body: JSON.stringify(body) })).json()
  }
  try {
    const examples = Array.from({ length: 12 }, (_, i) => ({ input: `${marker} ${i}`, output: `${marker} is ${i}.` }))
    const options = { prefixLength: 2, steps: 3, batchSize: 2, reparametrization: 0, initialization: `text:${marker}` }
    const training = { ...options, learningRate: 0.01 }
    const { id, jobId } = (await post('/prefixes', { name: 'seen', examples, training })) as Record<string, string>
    const job = await waitForJob(service, jobId ?? '', ({ status }) => status === 'succeeded' || status === 'failed')
    assert.deepEqual([job.status, job.error], ['succeeded', null])
    const asked = { prefix: 'seen', input: `${marker} 3`, maxNewTokens: 6, stop: [`${marker}!`] }
    const { usage } = (await post('/generate', asked)) as { usage: Record<string, number> }

    const request = await collector.named('POST /prefixes')
    const trained = await collector.named('job train')
    assert.deepEqual([trained.traceId, trained.parentSpanId], [traceId, request.spanId])
    for (const name of ['steps', 'evaluate', 'publish']) {
      const { parentSpanId, attributes } = await collector.named(name)
      assert.equal(parentSpanId, trained.spanId, name)
      assert.equal(attributes['error.type'], undefined, name)
    }
    const made = await collector.named(`text_completion ${id}`)
    assert.equal(made.parentSpanId, (await collector.named('POST /generate')).spanId)
    assert.equal(made.attributes['gen_ai.usage.output_tokens'], usage['outputTokens'])
    for (const name of ['prefix_load', 'queue', 'prefill', 'decode'])
      assert.equal((await collector.named(name)).parentSpanId, made.spanId, name)

    const metrics = await (await fetch(`${service.address}/metrics`)).text()
    const figure = (series: string) =>
      Number(
        metrics
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length),
      )
    assert.equal(figure(`preamble_prefix_output_tokens_total{prefix="${id}"}`), usage['outputTokens'])
    assert.equal(figure('preamble_prompt_tokens_total'), usage['inputTokens'])
    assert.equal(figure('preamble_prefix_pool_prefixes'), 1)
    assert.equal(figure('preamble_sequences_running'), 0)
    await service.stop()
    const told = { spans: collector.texts.join(''), metrics, log: logged }
    for (const [where, text] of Object.entries(told)) {
      assert.ok(text.length > 0, where)
      assert.ok(!text.toLowerCase().includes(marker.toLowerCase()), `a user's text stands in the ${where}`)
    }
  } finally {
    await service.stop()
    collector.close()
    await rm(folder, { recursive: true, force: true })
  }
})

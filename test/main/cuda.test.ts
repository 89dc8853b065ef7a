// The whole service on the device, as far as the stand-in for it goes: it trains, generates, and says what it runs on.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { buildStandIn, whyNot } from '../runtime/cuda/stand-in/build.ts'
import { startProcess, waitForJob } from './process.ts'

const skip = whyNot() ?? false

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-cuda-'))
})
after(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('with RUNTIME=cuda a prefix is trained and played on the device, and GET /readyz names it', { skip }, async () => {
  const { libraries } = buildStandIn()
  const service = await startProcess({
    DATA: path.join(folder, 'data'),
    RUNTIME: 'cuda',
    CUDA_LIBRARIES: libraries,
    ROWS_MAX: '4',
  })
  const ready = (await service.request('GET', '/readyz')) as unknown as { body: { runtime: { device: string } } }
  assert.match(ready.body.runtime.device, /^stand-in on the CPU/)
  const { body } = (await service.request('POST', '/prefixes', {
    name: 'inns',
    examples: [1, 2, 3, 4].map((i) => ({ input: `Place ${i}`, output: `Place ${i} is an inn.` })),
    validation: 0,
    training: {
      prefixLength: 2,
      steps: 3,
      batchSize: 2,
      reparametrization: 0,
      learningRate: 0.01,
      initialization: 'random',
    },
  })) as unknown as { body: { id: string; jobId: string } }
  const job = await waitForJob(service, body.jobId, ({ status }) => status !== 'queued' && status !== 'running')
  assert.equal(job.error ?? null, null)
  const record = (await service.request('GET', `/prefixes/${body.id}`)) as unknown as {
    body: { status: string; training: { runtime: string; device: string } }
  }
  assert.equal(record.body.status, 'ready')
  assert.equal(record.body.training.runtime, 'cuda')
  assert.match(record.body.training.device, /^stand-in/)
  const request = { prefix: 'inns', input: 'Place 5', maxNewTokens: 4 }
  const generated = await service.request('POST', '/generate', request)
  assert.equal(generated.status, 200, JSON.stringify(generated.body))
  await service.stop()
})

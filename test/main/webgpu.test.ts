// The whole service on a GPU through WebGPU: a prefix trained and played there, and a GPU that is lost in mid-flight.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { shapeModel } from '../../bench/shape-model.ts'
import { isOnDevice, swiftShader, testWebgpu } from '../runtime/webgpu/runtimes.ts'
import { startProcess, waitForJob, type ServiceProcess } from './process.ts'

const { skip } = testWebgpu

let folder: string
let service: ServiceProcess
const lossFlag = (): string => path.join(folder, 'lost')
before(async () => {
  if (skip !== false) return
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-webgpu-'))
  const driver: Record<string, string> = isOnDevice ? {} : { VK_DRIVER_FILES: swiftShader as string }
  const loss = new URL('../runtime/webgpu/lose-device.js', import.meta.url)
  service = await startProcess({
    DATA: path.join(folder, 'data'),
    // On a GPU the default model; in software one that has all that it has, in less.
    MODEL: isOnDevice ? 'model' : await shapeModel('tiny', folder),
    RUNTIME: 'webgpu',
    ROWS_MAX: '2',
    NODE_OPTIONS: `--import=${loss.href}`,
    LOSE_DEVICE_FLAG: lossFlag(),
    ...driver,
  })
})
after(async () => {
  if (skip !== false) return
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

test('with RUNTIME=webgpu a prefix is trained and played on the GPU, and GET /readyz names it', { skip }, async () => {
  const ready = (await service.request('GET', '/readyz')) as unknown as {
    body: { runtime: { name: string; device: string; precision: string } }
  }
  const { runtime } = ready.body
  assert.deepEqual([runtime.name, runtime.precision], ['webgpu', 'float32'])
  assert.match(runtime.device, isOnDevice ? /\w/ : /^SwiftShader .*, software/)
  const { body } = (await service.request('POST', '/prefixes', {
    name: 'inns',
    examples: [1, 2].map((i) => ({ input: `Place ${i}`, output: `Place ${i} is an inn.` })),
    validation: 0,
    training: {
      prefixLength: 2,
      steps: 2,
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
  assert.equal(record.body.training.runtime, 'webgpu')
  assert.equal(record.body.training.device, runtime.device)
  const generated = await service.request('POST', '/generate', { prefix: 'inns', input: 'Place 5', maxNewTokens: 4 })
  assert.equal(generated.status, 200, JSON.stringify(generated.body))
})

test('a GPU that is lost in mid-flight costs the requests that were running, and the next are answered once it is back', {
  skip,
}, async () => {
  const generate = (): ReturnType<ServiceProcess['request']> =>
    service.request('POST', '/generate', { input: 'Place 5', maxNewTokens: 4 })
  await writeFile(lossFlag(), '')
  const { body } = await generate()
  const failed = body as { code: string; detail?: string }
  assert.equal(failed.code, 'engine_failed', JSON.stringify(body))
  assert.match(JSON.stringify(body), /lost/)
  // One that meets the dying thread fails too; those after it wait for the new one.
  const answers = [await generate(), await generate()]
  assert.equal(answers[1]?.status, 200, JSON.stringify(answers))
})

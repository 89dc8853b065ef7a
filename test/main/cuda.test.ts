// The whole service on the device, or on the stand-in for it: it trains, generates, says what it runs on, and survives a kill.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { shapeModel } from '../../bench/shape-model.ts'
import { isOnDevice, testCuda } from '../runtime/cuda/runtimes.ts'
import { buildStandIn } from '../runtime/cuda/stand-in/build.ts'
import { shareKernels } from '../runtime/shared-kernels.ts'
import { isAlive, livingChildren, startProcess, waitForJob, type ServiceProcess } from './process.ts'

const { skip } = testCuda

let folder: string
/** The default model on a device; on the stand-in one that has all that it has, in less. */
let model: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-cuda-'))
  model = isOnDevice ? 'model' : await shapeModel('tiny', folder)
})
after(async () => {
  await rm(folder, { recursive: true, force: true })
})

function start(name: string, more: Readonly<Record<string, string>> = {}): Promise<ServiceProcess> {
  const libraries = isOnDevice ? (process.env['CUDA_LIBRARIES'] ?? '') : buildStandIn().libraries
  const data = path.join(folder, name)
  if (!isOnDevice && !existsSync(data)) shareKernels(data)
  return startProcess({
    DATA: data,
    MODEL: model,
    RUNTIME: 'cuda',
    CUDA_LIBRARIES: libraries,
    ROWS_MAX: '4',
    ...more,
  })
}

test('with RUNTIME=cuda a prefix is trained and played on the device, and GET /readyz names it', { skip }, async () => {
  const service = await start('data')
  const ready = (await service.request('GET', '/readyz')) as unknown as { body: { runtime: { device: string } } }
  assert.match(ready.body.runtime.device, isOnDevice ? /GiB/ : /^stand-in on the CPU/)
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
  assert.equal(record.body.training.device, ready.body.runtime.device)
  assert.ok((await readdir(path.join(folder, 'data', 'lent'))).length > 0, 'the engine lends its weights')
  const request = { prefix: 'inns', input: 'Place 5', maxNewTokens: 4 }
  const generated = await service.request('POST', '/generate', request)
  assert.equal(generated.status, 200, JSON.stringify(generated.body))
  await service.stop()
})

const skipLost = isOnDevice ? 'no real device is told to fail' : skip

for (const runtime of ['cuda', 'auto'] as const)
  test(`with RUNTIME=${runtime} a device that is lost costs the requests that were running: the next ones are answered on it again`, {
    skip: skipLost,
  }, async () => {
    // The stand-in loses the device once so many kernels ran, and for as long as the process lives.
    const libraries = path.join(folder, `libraries-${runtime}`)
    await symlink(buildStandIn().libraries, libraries)
    const service = await start(`lost-${runtime}`, {
      RUNTIME: runtime,
      STAND_IN_LOST_AFTER: '600',
      CUDA_LIBRARIES: libraries,
    })
    const readiness = async (): Promise<{
      status: number
      text: string
      runtime: { name: string; device: string }
    }> => {
      const { status, body } = await service.request('GET', '/readyz')
      return { status, text: JSON.stringify(body), runtime: (body as { runtime: never }).runtime }
    }
    const generate = (): ReturnType<ServiceProcess['request']> =>
      service.request('POST', '/generate', { input: 'Place 5', maxNewTokens: 8 })
    const lose = async (): Promise<void> => {
      let failed: unknown = null
      for (let i = 0; i < 20 && failed === null; i++) {
        const { status, body } = await generate()
        if (status !== 200) failed = body
      }
      assert.equal((failed as { code: string } | null)?.code, 'engine_failed')
    }
    const engine = async (): Promise<number | undefined> => (await livingChildren(service.child.pid as number))[0]
    const before = await readiness()
    assert.equal(before.runtime.name, 'cuda')
    const first = await engine()
    const answer = await generate()
    assert.equal(answer.status, 200)
    await lose()
    // One that meets the dying process fails too; those after it wait for the new one.
    const after = [await generate(), await generate()]
    assert.deepEqual(after[1], answer)
    assert.deepEqual((await readiness()).runtime, before.runtime)
    assert.notEqual(await engine(), first)
    // What NVIDIA's libraries are to a machine may go as well.
    await rm(libraries)
    await lose()
    await generate()
    if (runtime === 'auto') {
      assert.equal((await generate()).status, 200)
      assert.equal((await readiness()).runtime.name, 'onnx')
    } else {
      assert.notEqual((await generate()).status, 200)
      assert.match((await readiness()).text, /RUNTIME=cuda cannot be had/)
    }
    const last = await engine()
    assert.equal(service.child.exitCode, null)
    await service.stop()
    assert.ok(last === undefined || !(await isAlive(last)))
  })

const isLong = isOnDevice || process.env['PREAMBLE_TEST_CUDA'] === 'long'

test('a killed service goes on from its last checkpoint on the device, and the prefix is bit for bit the same', {
  skip: isLong ? skip : 'takes minutes on the stand-in; PREAMBLE_TEST_CUDA=long runs it there',
}, async () => {
  const request = {
    examples: Array.from({ length: 8 }, (_, i) => ({ input: `Place ${i}`, output: `Place ${i} is an inn.` })),
    validation: 0.25,
    training: {
      prefixLength: 2,
      steps: 130,
      batchSize: 2,
      reparametrization: 0,
      learningRate: 0.01,
      initialization: 'random',
    },
  }
  const train = async (service: ServiceProcess): Promise<{ id: string; jobId: string }> =>
    (await service.request('POST', '/prefixes', request)).body
  const artifactOf = async (service: ServiceProcess, id: string): Promise<string> => {
    const { body } = await service.request('GET', `/prefixes/${id}`)
    return (body as { artifactSha256: string }).artifactSha256
  }
  const isOver = ({ status }: { readonly status: string }): boolean => status !== 'queued' && status !== 'running'
  let service = await start('disturbed')
  const first = await train(service)
  // A checkpoint is written after 100 steps.
  await waitForJob(service, first.jobId, ({ progress }) => (progress?.step ?? 0) > 105)
  await service.stop('SIGKILL')
  service = await start('disturbed')
  await waitForJob(service, first.jobId, isOver)
  const disturbed = await artifactOf(service, first.id)
  await service.stop()
  service = await start('undisturbed')
  const second = await train(service)
  await waitForJob(service, second.jobId, isOver)
  assert.equal(await artifactOf(service, second.id), disturbed)
  await service.stop()
})

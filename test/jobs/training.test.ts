// The training job as a plain function: what it leaves behind however it ends.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import type { StopReason } from '../../src/jobs/job.ts'
import { isFinal } from '../../src/jobs/problem.ts'
import { handedBack } from '../../src/jobs/stopping.ts'
import { defaultRhythm, trainJob, type TrainingRhythm } from '../../src/jobs/training.ts'
import type { TrainingOptions } from '../../src/train/options.ts'
import { examples, FakeRun, fakeService, type FakeService } from './fake-training.ts'

const never = new AbortController().signal
const everyStep: TrainingRhythm = {
  progressEveryMs: 0,
  checkpointEveryMs: Number.POSITIVE_INFINITY,
  checkpointEverySteps: 1,
}

/** Stops the training with `reason` after step `step`. */
function stopAt(service: FakeService, step: number, reason: StopReason): AbortSignal {
  const stop = new AbortController()
  service.onStep = (done) => {
    if (done === step) stop.abort(reason)
  }
  return stop.signal
}

async function undisturbed(steps: number): Promise<number | undefined> {
  const service = fakeService(steps)
  await trainJob(service.job, never, service)
  return service.published[0]?.keys[0]
}

test('a training publishes its prefix with what it came to, and leaves no checkpoint', async () => {
  const service = fakeService(5)
  const result = await trainJob(service.job, never, service, everyStep)
  assert.deepEqual(result, { prefixId: service.job.data.prefixId, step: 5, loss: 0.2, validationLoss: 0.5 })
  assert.deepEqual(
    service.progress.map(({ step }) => step),
    [1, 2, 3, 4, 5],
  )
  const { status, step, steps, loss, training, samples, metrics, validation } = service.record ?? {}
  assert.deepEqual([status, step, steps, loss], ['ready', 5, 5, 0.2])
  assert.deepEqual([training, validation], [{ fake: true, codeVersion: '0.0.0' }, 0.1])
  assert.deepEqual(metrics, { bleu: 12.5, examples: 1 })
  assert.equal(samples?.[0]?.output, 'sampled')
  assert.equal(await service.checkpoints.get('job_1'), null)
  assert.ok(service.runs[0]?.isDisposed)
})

test('the held-out examples are drawn from the data, or are a dataset of their own', async () => {
  const drawn = fakeService(1)
  await trainJob(drawn.job, never, drawn)
  assert.deepEqual([drawn.opened[0]?.examples.length, drawn.opened[0]?.heldOut.length], [9, 1])
  const own = fakeService(1)
  const others = [{ input: 'other', output: 'other' }]
  const datasets = { get: (id: string) => Promise.resolve(id === 'ds_2' ? others : examples) }
  const job = { ...own.job, data: { ...own.job.data, validation: 'ds_2' } }
  await trainJob(job, never, { ...own, datasets })
  assert.deepEqual(own.opened[0], { examples, heldOut: others, template: '{input}', from: null })
})

test('reports come at most so often, the first and the last always', async () => {
  const service = fakeService(50)
  await trainJob(service.job, never, service, { ...defaultRhythm, progressEveryMs: 3_600_000 })
  assert.deepEqual(
    service.progress.map(({ step }) => step),
    [1, 50],
  )
})

test('a checkpoint comes after so many steps, and the record shows how far it is', async () => {
  const service = fakeService(7)
  const seen: unknown[] = []
  const checkpoints = {
    ...service.checkpoints,
    put: async (id: string, bytes: Uint8Array) => {
      seen.push([bytes[0], service.record?.step])
      await service.checkpoints.put(id, bytes)
    },
  }
  await trainJob(service.job, never, { ...service, checkpoints }, { ...everyStep, checkpointEverySteps: 3 })
  assert.deepEqual(seen, [
    [3, 0],
    [6, 3],
  ])
})

test('a stopped worker leaves a checkpoint, from which the same prefix comes as without the stop', async () => {
  const service = fakeService(9)
  const stop = stopAt(service, 4, 'shutdown')
  await assert.rejects(trainJob(service.job, stop, service), { name: handedBack })
  assert.equal((await service.checkpoints.get('job_1'))?.[0], 4)
  assert.equal(service.published.length, 0)
  assert.ok(service.runs[0]?.isDisposed)
  await trainJob(service.job, never, service)
  assert.equal(service.runs[1]?.step, 9)
  assert.equal(service.published[0]?.keys[0], await undisturbed(9))
})

test('a checkpoint with every step in it is published as it is', async () => {
  const service = fakeService(3)
  await assert.rejects(trainJob(service.job, stopAt(service, 3, 'shutdown'), service), { name: handedBack })
  const result = await trainJob(service.job, never, service)
  assert.deepEqual([result.step, result.loss], [3, 1 / 3])
  assert.equal(service.published[0]?.keys[0], await undisturbed(3))
})

test('a checkpoint that cannot be read costs the steps in it, not the training', async () => {
  const service = fakeService(3)
  await service.checkpoints.put('job_1', new Uint8Array(0))
  await trainJob(service.job, never, service)
  assert.equal(service.published[0]?.keys[0], await undisturbed(3))
  assert.match(service.warnings.join(), /checkpoint of job job_1/)
})

test('a cancelled training publishes nothing and leaves no checkpoint', async () => {
  const service = fakeService(9)
  const stop = stopAt(service, 4, 'cancelled')
  await assert.rejects(trainJob(service.job, stop, service, everyStep), { name: 'ServiceError', code: 'cancelled' })
  assert.equal(service.published.length, 0)
  assert.equal(await service.checkpoints.get('job_1'), null)
})

test('a training that lost its job to another worker leaves the checkpoint to it', async () => {
  const service = fakeService(9)
  const stop = stopAt(service, 4, 'lock lost')
  await assert.rejects(trainJob(service.job, stop, service, { ...everyStep, checkpointEverySteps: 3 }), /lock lost/)
  assert.equal((await service.checkpoints.get('job_1'))?.[0], 3)
})

test('a job that died after its prefix was published has nothing left to do', async () => {
  const service = fakeService(3)
  const first = await trainJob(service.job, never, service)
  await service.checkpoints.put('job_1', Uint8Array.of(2, 2))
  assert.deepEqual(await trainJob(service.job, never, service), first)
  assert.equal(service.runs.length, 1)
  assert.equal(await service.checkpoints.get('job_1'), null)
})

test('the job of a prefix that is deleted is cancelled, before its training and in the middle of it', async () => {
  const before = fakeService(3)
  before.record = null
  await assert.rejects(trainJob(before.job, never, before), { code: 'cancelled' })
  assert.equal(before.runs.length, 0)
  const within = fakeService(9)
  within.onStep = (step) => {
    if (step === 4) within.record = null
  }
  await assert.rejects(trainJob(within.job, never, within, everyStep), { code: 'cancelled' })
  assert.equal(within.runs[0]?.step, 4)
  assert.equal(await within.checkpoints.get('job_1'), null)
})

test('a prefix without samples is better than none', async () => {
  const service = fakeService(2)
  await trainJob(service.job, never, { ...service, evaluate: () => Promise.reject(new Error('no engine')) })
  const { status, samples, metrics } = service.record ?? {}
  assert.deepEqual([status, samples, metrics], ['ready', [], {}])
  assert.match(service.warnings.join(), /no samples/)
})

test('a stop while the new prefix is evaluated leaves a checkpoint with every step in it; a cancelled one publishes nothing', async () => {
  for (const reason of ['shutdown', 'cancelled'] as const) {
    const service = fakeService(3)
    const stop = new AbortController()
    const evaluate = async () => {
      stop.abort(reason)
      return { samples: [], metrics: {} }
    }
    const expected = reason === 'shutdown' ? { name: handedBack } : { code: 'cancelled' }
    await assert.rejects(trainJob(service.job, stop.signal, { ...service, evaluate }), expected)
    assert.equal((await service.checkpoints.get('job_1'))?.[0], reason === 'shutdown' ? 3 : undefined)
    assert.equal(service.published.length, 0)
    if (reason !== 'shutdown') continue
    await trainJob(service.job, never, service)
    assert.equal(service.published[0]?.keys[0], await undisturbed(3))
  }
})

test('what goes wrong in a training comes out as it is, and the checkpoint stays', async () => {
  const service = fakeService(9)
  service.onStep = (step) => {
    if (step === 4) throw new ServiceError('store_full', 'no room')
  }
  await assert.rejects(trainJob(service.job, never, service, everyStep), { code: 'store_full' })
  assert.equal((await service.checkpoints.get('job_1'))?.[0], 3)
  assert.ok(service.runs[0]?.isDisposed)
})

test('a full store costs a checkpoint and not the training, and the last good one is what a stopped job goes on from', async () => {
  const service = fakeService(9)
  let room = 3
  const checkpoints = {
    ...service.checkpoints,
    put: async (id: string, bytes: Uint8Array) => {
      if (room-- <= 0) throw new ServiceError('store_full', 'no room')
      await service.checkpoints.put(id, bytes)
    },
  }
  const parts = { ...service, checkpoints }
  await assert.rejects(trainJob(service.job, stopAt(service, 7, 'shutdown'), parts, everyStep), { name: handedBack })
  assert.equal((await service.checkpoints.get('job_1'))?.[0], 3)
  assert.deepEqual(
    service.warnings,
    [4, 5, 6, 7].map((step) => `job job_1 could not be written down at step ${step}, its training goes on`),
  )
  await trainJob(service.job, never, parts, everyStep)
  assert.equal(service.published[0]?.keys[0], await undisturbed(9))
})

test('what else goes wrong with a checkpoint is no matter of room, and ends the run', async () => {
  const service = fakeService(9)
  const checkpoints = { ...service.checkpoints, put: () => Promise.reject(new Error('a bug')) }
  await assert.rejects(trainJob(service.job, never, { ...service, checkpoints }, everyStep), /a bug/)
})

test('a job of an older version, without the options that came since, has their defaults', async () => {
  const service = fakeService(1)
  const { labelSmoothing: _, accumulation: __, ...older } = service.job.data.options
  const asked: unknown[] = []
  const openTraining: FakeService['openTraining'] = (data, options, checkpoint) => {
    asked.push(options)
    return service.openTraining(data, options, checkpoint)
  }
  const job = { ...service.job, data: { ...service.job.data, options: older as TrainingOptions } }
  await trainJob(job, never, { ...service, openTraining })
  assert.deepEqual(asked, [service.job.data.options])
})

test('the prefix to start from is loaded when the training asks for it, and named by its artifact', async () => {
  const service = fakeService(1)
  const source = await new FakeRun(1, null).prefix()
  const registry = { ...service.registry, load: (id: string) => Promise.resolve({ ...source, id }) }
  const data = { ...service.job.data, from: { prefixId: 'pfx_9', artifactSha256: 'abc' } }
  await trainJob({ ...service.job, data }, never, { ...service, registry })
  assert.equal(service.opened[0]?.from?.label, 'pfx_9@abc')
  assert.deepEqual(await service.opened[0]?.from?.load(), { ...source, id: 'pfx_9' })
})

test('a source that was deleted before the training began fails the job, which is not cancelled for it', async () => {
  const service = fakeService(1)
  const openTraining: FakeService['openTraining'] = async (data, options, checkpoint) => {
    await data.from?.load()
    return service.openTraining(data, options, checkpoint)
  }
  const job = { ...service.job, data: { ...service.job.data, from: { prefixId: 'pfx_9', artifactSha256: 'abc' } } }
  await assert.rejects(trainJob(job, never, { ...service, openTraining }), {
    code: 'prefix_not_found',
    message: 'the prefix pfx_9, from which the training was to start, was deleted before it did',
  })
  assert.ok(isFinal({ code: 'prefix_not_found', detail: '' }))
})

// POST /prefixes with training options that exclude each other, and with a prefix to start from.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TrainJobData } from '../../src/jobs/job.ts'
import { trainingDefaults } from '../../src/train/options.ts'
import { addReadyPrefix, examples, makeService, model, type Service } from './fakes.ts'

function train({ app }: Service, payload: object) {
  return app.inject({ method: 'POST', url: '/prefixes', payload: { examples, ...payload } })
}

async function errorsOf(service: Service, training: object, rest: object = {}) {
  const response = await train(service, { training, ...rest })
  const { code, errors } = response.json()
  assert.deepEqual([response.statusCode, code], [400, 'invalid_request'], response.body)
  return errors as { pointer: string; expected: string; received: string }[]
}

test('each option of a training has limits', async () => {
  const service = makeService()
  for (const [field, ...values] of [
    ['labelSmoothing', -0.1, 1],
    ['dropout', -0.1, 1],
    ['accumulation', 0, 1.5, 1_025],
    ['warmupSteps', -1, 0.5],
    ['schedule', 'step'],
    ['weightDecay', -1],
    ['clipNorm', 0],
    ['variant', 'suffix'],
  ] as const) {
    for (const value of values) {
      const [error, ...more] = await errorsOf(service, { [field]: value })
      assert.deepEqual([error?.pointer, more], [`/training/${field}`, []], `${field} ${value}`)
    }
  }
  const training = {
    ...trainingDefaults,
    labelSmoothing: 0.1,
    dropout: 0.2,
    accumulation: 4,
    warmupSteps: 100,
    schedule: 'cosine',
    weightDecay: 0.01,
    clipNorm: 0.5,
    variant: 'embedding',
    reparametrization: 0,
  }
  const response = await train(service, { training })
  assert.equal(response.statusCode, 202, response.body)
  const job = service.queue.data.get(response.json().jobId) as TrainJobData
  assert.deepEqual(job.options, training)
  assert.equal(service.queue.data.size, 1)
})

test('options that exclude each other are refused by their place', async () => {
  const service = makeService()
  const [network] = await errorsOf(service, { variant: 'embedding', reparametrization: 64 })
  assert.deepEqual([network?.pointer, network?.received], ['/training/reparametrization', '64'])
  assert.match(network?.expected ?? '', /0 or null with the variant embedding/)
  const [warmup] = await errorsOf(service, { steps: 10, warmupSteps: 10 })
  assert.equal(warmup?.pointer, '/training/warmupSteps')
})

test('an infix is refused, as it cannot be served', async () => {
  const response = await train(makeService(), { training: { variant: 'infix' } })
  const { code, supported } = response.json()
  assert.deepEqual([response.statusCode, code, supported], [422, 'not_supported', ['prefix', 'embedding']])
})

test('a training that starts from a prefix follows its length and template, and its record names it', async () => {
  const service = makeService()
  const source = await addReadyPrefix(service)
  const response = await train(service, { from: 'e2e' })
  assert.equal(response.statusCode, 202, response.body)
  const { id, jobId } = response.json()
  const job = service.queue.data.get(jobId) as TrainJobData
  assert.deepEqual(job.from, { prefixId: source.id, artifactSha256: source.artifactSha256 })
  assert.deepEqual([job.options.prefixLength, job.template], [source.prefixLength, source.template])
  const record = await service.registry.find(id)
  assert.equal(record.prefixLength, source.prefixLength)
  assert.equal(record.training['from'], `${source.id}@${source.artifactSha256}`)
})

test('a length that contradicts the prefix to start from is refused naming both, its own length is not', async () => {
  const service = makeService()
  const source = await addReadyPrefix(service)
  const [error] = await errorsOf(service, { prefixLength: 10 }, { from: source.id })
  assert.deepEqual(error, {
    pointer: '/training/prefixLength',
    expected: `the 3 virtual tokens of ${source.id}, which it starts from`,
    received: '10',
  })
  assert.equal((await train(service, { from: source.id, training: { prefixLength: 3 } })).statusCode, 202)
  const [variant] = await errorsOf(service, { variant: 'embedding' }, { from: source.id })
  assert.equal(variant?.pointer, '/training/variant')
})

test('a prefix that is not there, not ready or of another model starts nothing', async () => {
  const service = makeService()
  const codeOf = async (payload: object) => (await train(service, payload)).json().code
  assert.equal(await codeOf({ from: 'nobody' }), 'prefix_not_found')
  await train(service, { name: 'queued' })
  assert.equal(await codeOf({ from: 'queued' }), 'prefix_not_ready')
  const { id } = await addReadyPrefix(service, 'other')
  await service.registry.update(id, { model: { name: 'large', sha256: 'c'.repeat(64) } })
  const response = await train(service, { from: 'other' })
  const { code, detail, field } = response.json()
  assert.deepEqual([response.statusCode, code, field], [409, 'prefix_model_mismatch', 'modelSha256'])
  assert.ok(detail.includes('c'.repeat(64)) && detail.includes(model.sha256) && detail.includes('other'), detail)
  assert.equal(service.queue.data.size, 1)
})

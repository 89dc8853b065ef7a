// POST /prefixes and POST /datasets: what is stored, what is put in line, what is refused.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { examples, makeService, model, type Service } from './fakes.ts'

const options = {
  prefixLength: null,
  epochs: null,
  steps: null,
  batchSize: 10,
  accumulation: 1,
  learningRate: null,
  warmupSteps: 0,
  schedule: 'linear',
  weightDecay: 0,
  clipNorm: 1,
  dropout: 0,
  labelSmoothing: 0,
  variant: 'prefix',
  attachments: null,
  reparametrization: null,
  initialization: null,
  seed: 1,
  lossReduction: 'sum',
  precision: 'float32',
}

function train({ app }: Service, payload: object) {
  return app.inject({ method: 'POST', url: '/prefixes', payload })
}

async function codesOf(service: Service, payload: object) {
  const response = await train(service, payload)
  const { code, errors } = response.json()
  return { status: response.statusCode, code, pointers: errors?.map(({ pointer }: { pointer: string }) => pointer) }
}

test('examples are stored, the prefix is recorded and its training is in line, with defaults that work', async () => {
  const service = makeService()
  const response = await train(service, { name: 'e2e', examples })
  assert.equal(response.statusCode, 202, response.body)
  const { id, jobId, ...rest } = response.json()
  assert.deepEqual(rest, { name: 'e2e', version: 1, status: 'queued' })
  assert.match(id, /^pfx_[0-9a-z]{24}$/)
  assert.equal(response.headers['location'], `/jobs/${jobId}`)
  const job = service.queue.data.get(jobId)
  assert.ok(job !== undefined)
  assert.deepEqual(await service.datasets.get(job.datasetId), examples)
  const template = ' {input} <|endoftext|>'
  assert.deepEqual(job, { prefixId: id, datasetId: job.datasetId, validation: 0.1, template, options, from: null })
  const record = await service.registry.find('e2e')
  assert.equal(record.jobId, jobId)
  assert.deepEqual(record.training, options)
  assert.deepEqual(record.model, { name: model.name, sha256: model.sha256 })
  assert.equal(record.dataset?.examples, 2)
})

test('a stored dataset, a list of held-out examples and options of its own are passed on', async () => {
  const service = makeService()
  const stored = await service.datasets.put(examples)
  const training = { prefixLength: 3, steps: 7, learningRate: 0.01, reparametrization: 0, initialization: 'random' }
  const validation = [{ input: 'held', output: 'out' }]
  const template = 'Q: {input} A:'
  const response = await train(service, { dataset: stored.id, validation, template, training })
  assert.equal(response.statusCode, 202, response.body)
  const { id, jobId, name, version } = response.json()
  assert.deepEqual({ name, version }, { name: null, version: null })
  const job = service.queue.data.get(jobId)
  assert.deepEqual(
    { ...job, validation: null },
    {
      prefixId: id,
      datasetId: stored.id,
      validation: null,
      template,
      options: { ...options, ...training },
      from: null,
    },
  )
  assert.ok(job !== undefined && job.type !== 'evaluate')
  assert.deepEqual(await service.datasets.get(String(job.validation)), validation)
  const record = await service.registry.find(id)
  assert.deepEqual([record.dataset, record.validation], [stored, job.validation])
})

test('the same name again is its next version', async () => {
  const service = makeService()
  await train(service, { name: 'e2e', examples })
  assert.equal((await train(service, { name: 'e2e', examples })).json().version, 2)
})

test('either examples or a dataset, not both and not neither', async () => {
  const service = makeService()
  const { id } = await service.datasets.put(examples)
  const invalid = { status: 400, code: 'invalid_request', pointers: [''] }
  assert.deepEqual(await codesOf(service, { examples, dataset: id }), invalid)
  assert.deepEqual(await codesOf(service, { name: 'e2e' }), invalid)
  assert.equal(service.queue.data.size, 0)
})

test('no examples, empty texts and unknown fields in examples are refused by their index', async () => {
  const service = makeService()
  const empty = await codesOf(service, { examples: [] })
  assert.deepEqual({ status: empty.status, code: empty.code }, { status: 422, code: 'examples_invalid' })
  const bad = [...examples, { input: '', output: 'x' }, { input: 'x', output: 'y', label: 1 }]
  const response = await train(service, { examples: bad })
  assert.equal(response.statusCode, 422)
  const { code, errors, total } = response.json()
  assert.equal(code, 'examples_invalid')
  assert.equal(total, 2)
  assert.deepEqual(
    errors.map(({ index }: { index: number }) => index),
    [2, 3],
  )
  const heldOut = await train(service, { examples, validation: [{ input: ' ', output: 'x' }] })
  assert.equal(heldOut.json().code, 'examples_invalid')
  assert.match(heldOut.json().detail, /^validation: /)
  assert.equal((await service.registry.list({ limit: 10 })).data.length, 0)
})

test('wrong types and unknown fields are refused, each by its place', async () => {
  const service = makeService()
  const pointersOf = async (payload: object) => {
    const { status, code, pointers } = await codesOf(service, payload)
    assert.deepEqual({ status, code }, { status: 400, code: 'invalid_request' }, JSON.stringify(payload))
    return pointers
  }
  assert.deepEqual(await pointersOf({ examples: 'many' }), ['/examples'])
  assert.deepEqual(await pointersOf({ examples: [1, { input: 'x' }] }), ['/examples/0', '/examples/1/output'])
  assert.deepEqual(await pointersOf({ examples, training: { epochs: '5' } }), ['/training/epochs'])
  assert.deepEqual(await pointersOf({ examples, training: { epoch: 5 } }), ['/training/epoch'])
  assert.deepEqual(await pointersOf({ examples, validation: 0.95 }), ['/validation'])
  assert.deepEqual(await pointersOf({ examples, validation: 'some' }), ['/validation'])
  assert.deepEqual(await pointersOf({ examples, name: 'E2E' }), ['/name'])
  assert.deepEqual(await pointersOf({ examples, name: 'pfx_e2e' }), ['/name'])
  assert.deepEqual(await pointersOf({ examples, template: 'none' }), ['/template'])
  assert.deepEqual(await pointersOf({ examples, template: '{input}{input}' }), ['/template'])
  assert.deepEqual(await pointersOf({ examples, training: { prefixLength: 64 } }), ['/training/prefixLength'])
  assert.deepEqual(await pointersOf({ examples, training: { initialization: 'text:' } }), ['/training/initialization'])
  assert.equal(service.queue.data.size, 0)
})

test('an unknown dataset is a 404 problem', async () => {
  const answer = await codesOf(makeService(), { dataset: `ds_${'0'.repeat(32)}` })
  assert.deepEqual({ status: answer.status, code: answer.code }, { status: 404, code: 'dataset_not_found' })
})

test('where the queue is away the answer is 503, and the prefix does not stay queued for ever', async () => {
  const service = makeService()
  service.queue.fails = new ServiceError('queue_unavailable', 'the queue gave no answer within 5000 ms')
  const response = await train(service, { name: 'e2e', examples })
  assert.equal(response.statusCode, 503)
  assert.equal(response.json().code, 'queue_unavailable')
  assert.ok(Number(response.headers['retry-after']) > 0)
  const { status, error } = await service.registry.find('e2e')
  assert.equal(status, 'failed')
  assert.equal(error?.code, 'queue_unavailable')
})

test('POST /datasets stores JSON Lines, and equal examples are one dataset', async () => {
  const { app, datasets } = makeService()
  const payload = `${examples.map((example) => JSON.stringify(example)).join('\n')}\n\n`
  const ids = new Set<string>()
  for (const type of ['application/x-ndjson', 'application/jsonl; charset=utf-8']) {
    const response = await app.inject({ method: 'POST', url: '/datasets', headers: { 'content-type': type }, payload })
    assert.equal(response.statusCode, 201, response.body)
    assert.equal(response.json().examples, 2)
    ids.add(response.json().id)
  }
  assert.equal(ids.size, 1)
  assert.deepEqual(await datasets.get([...ids][0] ?? ''), examples)
})

test('every broken line of a dataset is reported by its number', async () => {
  const { app } = makeService()
  const lines = [JSON.stringify(examples[0]), '{"input": "x"', '{"input": "x"}', '7', '{"input": "x", "output": 1}']
  const payload = Buffer.concat([
    Buffer.from(`${lines.join('\n')}\n{"input": "`),
    Buffer.from([0xff]),
    Buffer.from('"}'),
  ])
  const headers = { 'content-type': 'application/x-ndjson' }
  const response = await app.inject({ method: 'POST', url: '/datasets', headers, payload })
  assert.equal(response.statusCode, 422)
  const { code, errors, total } = response.json()
  assert.equal(code, 'examples_invalid')
  assert.deepEqual(
    errors.map(({ line }: { line: number }) => line),
    [2, 3, 4, 5, 6],
  )
  assert.equal(total, 5)
})

test('POST /datasets takes JSON Lines alone', async () => {
  const { app } = makeService()
  for (const type of ['application/json', 'text/csv']) {
    const headers = { 'content-type': type }
    const response = await app.inject({ method: 'POST', url: '/datasets', headers, payload: '{}' })
    assert.equal(response.statusCode, 415)
    assert.equal(response.json().code, 'unsupported_media_type')
  }
})

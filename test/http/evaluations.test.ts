// POST and GET /prefixes/{idOrName}/evaluations: what is put in line, what is refused, what is shown.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { greedy } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { evaluatedInputsMax } from '../../src/http/schemas/evaluations.ts'
import { createJobId } from '../../src/jobs/job.ts'
import { addReadyPrefix, examples, makeJob, makeService, type Service } from './fakes.ts'
import { makeEvaluation } from '../prefix/make-evaluation.ts'

function evaluate({ app }: Service, payload: object, prefix = 'e2e') {
  return app.inject({ method: 'POST', url: `/prefixes/${prefix}/evaluations`, payload })
}

async function refusal(service: Service, payload: object) {
  const response = await evaluate(service, payload)
  const { code, errors } = response.json()
  assert.equal(service.queue.data.size, 0)
  return { status: response.statusCode, code, pointers: errors?.map(({ pointer }: { pointer: string }) => pointer) }
}

test('an evaluation is put in line for the prefix, with defaults that work', async () => {
  const service = makeService()
  const { id } = await addReadyPrefix(service)
  const response = await evaluate(service, { examples })
  assert.equal(response.statusCode, 202, response.body)
  const { jobId, prefixId } = response.json()
  assert.deepEqual([prefixId, response.headers['location']], [id, `/jobs/${jobId}`])
  const { datasetId, ...job } = service.queue.data.get(jobId) ?? assert.fail('nothing is in line')
  assert.deepEqual(job, {
    type: 'evaluate',
    prefixId: id,
    maxNewTokens: 64,
    decoding: greedy,
    seed: 1,
    baselines: true,
  })
  assert.deepEqual(await service.datasets.get(datasetId), examples)
  assert.equal((await service.app.inject(`/jobs/${jobId}`)).json().type, 'evaluate')
})

test('several references of an input, a stored dataset and options of its own are passed on', async () => {
  const service = makeService()
  await addReadyPrefix(service)
  const decoding = { strategy: 'sample', topP: 0.9 }
  const body = { examples: [{ input: 'a', outputs: ['b', 'c'] }], maxNewTokens: 9, seed: 4, baselines: false, decoding }
  const first = service.queue.data.get((await evaluate(service, body)).json().jobId)
  assert.ok(first?.type === 'evaluate')
  assert.deepEqual([first.maxNewTokens, first.seed, first.baselines, first.decoding.topP], [9, 4, false, 0.9])
  assert.deepEqual(await service.datasets.get(first.datasetId), [
    { input: 'a', output: 'b' },
    { input: 'a', output: 'c' },
  ])
  const { id } = await service.datasets.put(examples)
  const second = service.queue.data.get((await evaluate(service, { dataset: id })).json().jobId)
  assert.equal(second?.datasetId, id)
})

test('what does not go together is refused, each by its place', async () => {
  const service = makeService()
  await addReadyPrefix(service)
  const invalid = (...pointers: string[]) => ({ status: 400, code: 'invalid_request', pointers })
  assert.deepEqual(await refusal(service, {}), invalid(''))
  assert.deepEqual(await refusal(service, { examples, dataset: 'ds_1' }), invalid(''))
  assert.deepEqual(await refusal(service, { examples, decoding: { n: 2 } }), invalid('/decoding/n'))
  const items = [{ input: 'a' }, { input: 'a', output: 'b', outputs: ['c'] }, ...examples]
  assert.deepEqual(await refusal(service, { examples: items }), invalid('/examples/0', '/examples/1'))
  assert.deepEqual(await refusal(service, { examples: [{ input: 'a', label: 1 }] }), invalid('/examples/0/label'))
  const beams = { strategy: 'greedy', beams: 3 }
  assert.deepEqual(await refusal(service, { examples, decoding: beams }), invalid('/decoding/beams'))
  assert.equal((await refusal(service, { dataset: `ds_${'0'.repeat(32)}` })).code, 'dataset_not_found')
})

test('bad texts are refused by the index of their item, and too many inputs with both numbers', async () => {
  const service = makeService()
  await addReadyPrefix(service)
  assert.equal((await refusal(service, { examples: [] })).code, 'examples_invalid')
  const bad = [...examples, { input: 'a', outputs: ['b', ' '] }, { input: '', output: 'c' }]
  const { code, errors, total } = (await evaluate(service, { examples: bad })).json()
  assert.deepEqual([code, total], ['examples_invalid', 2])
  assert.deepEqual(errors, [
    { index: 2, reason: 'output is empty' },
    { index: 3, reason: 'input is empty' },
  ])
  const many = Array.from({ length: evaluatedInputsMax + 1 }, (_, i) => ({ input: `${i}`, output: 'x' }))
  const response = await evaluate(service, { examples: many })
  assert.equal(response.statusCode, 422)
  assert.match(response.json().detail, /2001 inputs, an evaluation takes at most 2000/)
})

test('a prefix that is not there or not ready is not evaluated', async () => {
  const service = makeService()
  await service.app.inject({ method: 'POST', url: '/prefixes', payload: { name: 'young', examples } })
  assert.equal((await evaluate(service, { examples }, 'nobody')).json().code, 'prefix_not_found')
  assert.equal((await evaluate(service, { examples }, 'young')).json().code, 'prefix_not_ready')
  service.queue.fails = new ServiceError('queue_unavailable', 'away')
  await addReadyPrefix(service)
  assert.equal((await evaluate(service, { examples })).statusCode, 503)
})

test('evaluations are listed whole, the newest first', async () => {
  const service = makeService()
  const { id: prefixId } = await addReadyPrefix(service)
  const older = makeEvaluation({ prefixId })
  const newer = makeEvaluation({ prefixId, bare: null, fewShot: null, loss: null })
  for (const one of [older, newer]) await service.evaluations.put(one)
  const response = await service.app.inject('/prefixes/e2e/evaluations')
  assert.equal(response.statusCode, 200, response.body)
  assert.deepEqual(response.json(), { data: [newer, older] })
  assert.equal((await service.app.inject('/prefixes/nobody/evaluations')).statusCode, 404)
})

test('the job of an evaluation shows how many texts are made', async () => {
  const { app, queue } = makeService()
  const progress = { example: 12, examples: 90, etaMs: 4_000 }
  const job = makeJob({ id: createJobId(), type: 'evaluate', status: 'running', progress })
  queue.jobs.set(job.id, job)
  assert.deepEqual((await app.inject(`/jobs/${job.id}`)).json(), job)
})

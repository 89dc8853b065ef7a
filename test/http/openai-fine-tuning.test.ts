// /v1/fine_tuning/jobs by the official client: what is put in line, how a job is told, and what is refused.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadRequestError, NotFoundError, toFile } from 'openai'
import { ServiceError } from '../../src/errors/errors.ts'
import type { TrainJobData } from '../../src/jobs/job.ts'
import { usualRate } from '../../src/train/plan.ts'
import { trainingDefaults } from '../../src/train/options.ts'
import { addReadyPrefix, examples, makeJob, model } from './fakes.ts'
import { all, type ClientAndService, errorOf, jsonLines, openClient } from './openai-client.ts'

async function upload({ client }: ClientAndService, lines: readonly unknown[] = examples): Promise<string> {
  const file = await toFile(Buffer.from(jsonLines(lines)), 'train.jsonl')
  return (await client.files.create({ file, purpose: 'fine-tune' })).id
}

/** The client's types know no method but those of OpenAI; it sends what it is given. */
async function create(service: ClientAndService, fields: object = {}) {
  const request = { model: model.name, training_file: await upload(service), ...fields }
  return service.client.fineTuning.jobs.create(request)
}

function queuedOf({ queue }: ClientAndService, jobId: string): TrainJobData {
  return (queue.data.get(jobId) as TrainJobData | undefined) ?? assert.fail(`no job ${jobId}`)
}

test('a job with nothing but a model and a file trains as POST /prefixes does with its defaults', async (t) => {
  const service = await openClient(t)
  const job = await create(service)
  const { datasetId, options, validation, from, template } = queuedOf(service, job.id)
  assert.deepEqual(await service.datasets.get(datasetId), examples)
  assert.deepEqual([options, validation, from, template], [trainingDefaults, 0.1, null, ' {input} <|endoftext|>'])
  assert.deepEqual([job.object, job.status, job.model, job.seed], ['fine_tuning.job', 'queued', model.name, 1])
  assert.deepEqual([job.fine_tuned_model, job.trained_tokens, job.finished_at, job.error], [null, null, null, null])
  assert.deepEqual(job.hyperparameters, { n_epochs: 'auto', batch_size: 10, learning_rate_multiplier: 'auto' })
  assert.deepEqual([job.result_files, job.validation_file, job.metadata], [[], null, null])
})

test('every hyperparameter of a prefix reaches the training, and is told again with the job', async (t) => {
  const service = await openClient(t)
  const hyperparameters = {
    prefix_length: 5,
    n_epochs: 3,
    steps: 'auto',
    batch_size: 4,
    accumulation: 2,
    learning_rate: 0.01,
    warmup_steps: 2,
    schedule: 'cosine',
    weight_decay: 0.1,
    clip_norm: 2,
    dropout: 0.1,
    label_smoothing: 0.2,
    variant: 'prefix',
    reparametrization: 0,
    initialization: 'text:table to text',
    loss_reduction: 'mean',
    precision: 'fast',
    learning_rate_multiplier: 'auto',
  }
  const validation_file = await upload(service, [{ prompt: 'held', completion: 'out' }])
  const prefix = { hyperparameters, template: 'Q: {input} A:' }
  const metadata = { team: 'inns' }
  const job = await create(service, {
    method: { type: 'prefix', prefix },
    suffix: 'inns',
    seed: 7,
    validation_file,
    metadata,
  })
  const { options, template, validation, prefixId } = queuedOf(service, job.id)
  assert.deepEqual(options, {
    prefixLength: 5,
    epochs: 3,
    steps: null,
    batchSize: 4,
    accumulation: 2,
    learningRate: 0.01,
    warmupSteps: 2,
    schedule: 'cosine',
    weightDecay: 0.1,
    clipNorm: 2,
    dropout: 0.1,
    labelSmoothing: 0.2,
    variant: 'prefix',
    reparametrization: 0,
    initialization: 'text:table to text',
    lossReduction: 'mean',
    precision: 'fast',
    seed: 7,
  })
  assert.equal(template, 'Q: {input} A:')
  assert.deepEqual(await service.datasets.get(String(validation)), [{ input: 'held', output: 'out' }])
  assert.equal((await service.registry.find('inns@1')).id, prefixId)
  const told = await service.client.fineTuning.jobs.retrieve(job.id)
  assert.deepEqual(told, job)
  assert.deepEqual(told.method, { type: 'prefix', prefix: { hyperparameters, template: 'Q: {input} A:' } })
  assert.deepEqual([told.validation_file, told.metadata, told.seed], [validation_file, metadata, 7])
})

test('hyperparameters in their older place and those of supervised do the same', async (t) => {
  const service = await openClient(t)
  const hyperparameters = { n_epochs: 2, batch_size: 3, learning_rate_multiplier: 'auto' }
  for (const fields of [{ hyperparameters }, { method: { type: 'supervised', supervised: { hyperparameters } } }]) {
    const job = await create(service, fields)
    const { options } = queuedOf(service, job.id)
    assert.deepEqual(options, { ...trainingDefaults, epochs: 2, batchSize: 3 })
    assert.deepEqual(job.hyperparameters, hyperparameters)
  }
})

test("a multiplier is times the usual rate of the model's width, for the form that is trained", async (t) => {
  const service = await openClient(t)
  await addReadyPrefix(service)
  const width = model.heads * model.headDim
  for (const [asked, fields, form] of [
    [{ learning_rate_multiplier: 2 }, {}, 512],
    [{ learning_rate_multiplier: 2, reparametrization: 0 }, {}, 0],
    [{ learning_rate_multiplier: 2, variant: 'embedding' }, {}, 0],
    [{ learning_rate_multiplier: 2 }, { model: 'e2e' }, 0],
  ] as const) {
    const job = await create(service, { ...fields, method: { type: 'prefix', prefix: { hyperparameters: asked } } })
    const { learningRate, reparametrization } = queuedOf(service, job.id).options
    assert.deepEqual([learningRate, reparametrization], [2 * usualRate(width, form), form])
    assert.equal(job.hyperparameters.learning_rate_multiplier, 2)
  }
})

test('a prefix as the model is gone on from, and a dataset is a file', async (t) => {
  const service = await openClient(t)
  const source = await addReadyPrefix(service)
  const { id } = await service.datasets.put(examples)
  const job = await create(service, { model: 'e2e', training_file: id, suffix: 'e2e' })
  const { from, datasetId } = queuedOf(service, job.id)
  assert.deepEqual(from, { prefixId: source.id, artifactSha256: source.artifactSha256 })
  assert.deepEqual([datasetId, job.training_file, job.model], [id, id, 'e2e@1'])
})

test('a job goes through its states: running with an estimate, succeeded with its model, failed with its reason', async (t) => {
  const service = await openClient(t)
  const { jobs } = service.client.fineTuning
  const { id } = await create(service, { suffix: 'inns' })
  const { prefixId } = queuedOf(service, id)
  const startedAt = '2026-11-24T08:00:01.000Z'
  const finishedAt = '2026-11-24T08:00:09.000Z'
  const progress = {
    step: 1,
    steps: 4,
    loss: 2,
    validationLoss: null,
    tokensPerSecond: 9,
    examplesPerSecond: 1,
    etaMs: 60_000,
  }
  service.queue.jobs.set(id, makeJob({ id, prefixId, status: 'running', startedAt, progress }))
  const running = await jobs.retrieve(id)
  assert.equal(running.status, 'running')
  const left = (running.estimated_finish ?? 0) - Date.now() / 1_000
  assert.ok(left > 30 && left < 61, `${left} s left`)

  const training = { ...trainingDefaults, epochs: null, steps: 4, prefixLength: 10, trainedTokens: 321, seed: 1 }
  await service.registry.update(prefixId, { status: 'ready', training })
  service.queue.jobs.set(id, makeJob({ id, prefixId, status: 'succeeded', startedAt, finishedAt, progress }))
  const done = await jobs.retrieve(id)
  assert.deepEqual([done.status, done.fine_tuned_model, done.trained_tokens], ['succeeded', 'inns@1', 321])
  assert.deepEqual([done.finished_at, done.estimated_finish], [Date.parse(finishedAt) / 1_000, null])
  const { method } = done as { method?: { prefix?: { hyperparameters: Record<string, unknown> } } }
  assert.deepEqual(
    [method?.prefix?.hyperparameters['prefix_length'], method?.prefix?.hyperparameters['steps']],
    [10, 4],
  )

  const error = { code: 'training_diverged', detail: 'the loss is NaN at step 3' }
  service.queue.jobs.set(id, makeJob({ id, prefixId, status: 'failed', finishedAt, error }))
  assert.deepEqual((await jobs.retrieve(id)).error, {
    code: 'training_diverged',
    message: 'the loss is NaN at step 3',
    param: null,
  })
  await service.registry.delete(prefixId)
  const orphan = await jobs.retrieve(id)
  assert.deepEqual([orphan.status, orphan.model, orphan.fine_tuned_model], ['failed', model.name, null])
})

test('events come the newest first with the times they happened at, and the client goes from page to page', async (t) => {
  const service = await openClient(t)
  const { id } = await create(service, { suffix: 'inns' })
  const { prefixId } = queuedOf(service, id)
  const at = (second: number): string => `2026-11-24T08:00:0${second}.000Z`
  service.queue.jobs.set(id, makeJob({ id, prefixId, status: 'succeeded', createdAt: at(0), finishedAt: at(9) }))
  const progress = { step: 2, steps: 4, loss: 2.5, validationLoss: 2.25, etaMs: 1 }
  service.queue.history = [
    { id: 1, type: 'started', data: { attempt: 1, at: at(1) } },
    { id: 2, type: 'progress', data: { ...progress, step: 0, choosing: { done: 7, total: 90 }, at: at(2) } },
    { id: 3, type: 'progress', data: { ...progress, at: at(3) } },
    { id: 4, type: 'started', data: { attempt: 2, at: at(4) } },
    { id: 5, type: 'progress', data: { ...progress, step: 4, validationLoss: null } },
    { id: 6, type: 'succeeded', data: { prefixId, error: null, at: at(9) } },
  ]
  const events = await all(service.client.fineTuning.jobs.listEvents(id, { limit: 3 }))
  const told = events.map(({ created_at: seconds, level, type, message }) => [
    seconds - Date.parse(at(0)) / 1_000,
    level,
    type,
    message,
  ])
  assert.deepEqual(told, [
    [9, 'info', 'message', 'The training is done, new fine-tuned model: inns@1'],
    [4, 'info', 'metrics', 'Step 4/4: training loss=2.5000'],
    [4, 'info', 'message', 'The training has started again, attempt 2'],
    [3, 'info', 'metrics', 'Step 2/4: training loss=2.5000, validation loss=2.2500'],
    [2, 'info', 'metrics', 'Choosing hyperparameters: 7 of at most 90 steps of the candidates'],
    [1, 'info', 'message', 'The training has started'],
    [0, 'info', 'message', `Created fine-tuning job: ${id}`],
  ])
  assert.equal(new Set(events.map((event) => event.id)).size, 7)
  const { step, total_steps, train_loss, valid_loss } = (events[3]?.data ?? {}) as Record<string, unknown>
  assert.deepEqual([step, total_steps, train_loss, valid_loss], [2, 4, 2.5, 2.25])
  const error = await errorOf(service.client.fineTuning.jobs.listEvents(id, { after: 'ftevent-nothing' }))
  assert.deepEqual([error.status, error.param], [400, 'after'])
  assert.deepEqual(await all(service.client.fineTuning.jobs.checkpoints.list(id)), [])
})

test('a failed and a cancelled training say so in their last event', async (t) => {
  const service = await openClient(t)
  const { id } = await create(service)
  const failed = { code: 'input_too_long', detail: 'example 17 comes to 400 tokens' }
  service.queue.history = [{ id: 1, type: 'failed', data: { error: failed, at: '2026-11-24T08:00:00.000Z' } }]
  const [last] = await all(service.client.fineTuning.jobs.listEvents(id))
  assert.deepEqual(
    [last?.level, last?.message],
    ['error', 'The training failed: example 17 comes to 400 tokens (input_too_long)'],
  )
  service.queue.history = [{ id: 1, type: 'cancelled', data: { at: '2026-11-24T08:00:00.000Z' } }]
  const [cancelled] = await all(service.client.fineTuning.jobs.listEvents(id))
  assert.deepEqual([cancelled?.level, cancelled?.message], ['warn', 'The training was cancelled'])
})

test('jobs are listed the newest first across pages, those of POST /prefixes too, evaluations not', async (t) => {
  const service = await openClient(t)
  const ids: string[] = []
  for (let i = 0; i < 4; i++) ids.unshift((await create(service)).id)
  const native = await service.app.inject({ method: 'POST', url: '/prefixes', payload: { examples } })
  ids.unshift(native.json().jobId as string)
  const evaluation = makeJob({ id: `${ids[1]}0`, type: 'evaluate' })
  service.queue.jobs.set(evaluation.id, evaluation)
  const jobs = await all(service.client.fineTuning.jobs.list({ limit: 2 }))
  assert.deepEqual(
    jobs.map(({ id }) => id),
    ids,
  )
  const { dataset } = await service.registry.find(native.json().id as string)
  assert.equal(jobs[0]?.training_file, dataset?.id)
  const error = await errorOf(service.client.fineTuning.jobs.retrieve(evaluation.id))
  assert.ok(error instanceof NotFoundError)
  assert.match(error.message, /it is an evaluation/)
})

test('a job is cancelled once; when it has ended that is a bad request, and one that is not there is not found', async (t) => {
  const service = await openClient(t)
  const { jobs } = service.client.fineTuning
  const { id } = await create(service)
  assert.equal((await jobs.cancel(id)).status, 'cancelled')
  service.queue.jobs.set(id, makeJob({ id, status: 'cancelled', finishedAt: '2026-11-24T08:00:00.000Z' }))
  const again = await errorOf(jobs.cancel(id))
  assert.ok(again instanceof BadRequestError)
  assert.equal(again.code, 'job_finished')
  for (const ask of [
    () => jobs.cancel('ftjob-abc'),
    () => jobs.retrieve('ftjob-abc'),
    () => jobs.listEvents('job_0'),
  ]) {
    const error = await errorOf(ask())
    assert.ok(error instanceof NotFoundError)
    assert.equal(error.code, 'job_not_found')
  }
})

test('what cannot be trained is refused by its field, and nothing is put in line', async (t) => {
  const service = await openClient(t)
  const prefix = (hyperparameters: object, rest: object = {}) => ({
    method: { type: 'prefix', prefix: { hyperparameters, ...rest } },
  })
  const inPrefix = 'method.prefix.hyperparameters'
  const bad: readonly [string, object][] = [
    ['training_file', { training_file: 'file-abc123' }],
    ['training_file', { training_file: `ds_${'0'.repeat(32)}` }],
    ['validation_file', { validation_file: 'file-abc123' }],
    ['model', { model: 'gpt-4o-mini' }],
    ['suffix', { suffix: 'My Model' }],
    ['method.type', { method: { type: 'dpo' } }],
    ['method.supervised', { method: { type: 'prefix', supervised: {} } }],
    ['hyperparameters', { hyperparameters: {}, ...prefix({}) }],
    ['hyperparameters.n_epochs', { hyperparameters: { n_epochs: 'many' } }],
    ['integrations', { integrations: [{ type: 'wandb', wandb: { project: 'p' } }] }],
    ['metadata.team', { metadata: { team: 1 } }],
    [`${inPrefix}.prefix_length`, prefix({ prefix_length: 64 })],
    [`${inPrefix}.n_epochs`, prefix({ n_epochs: 0 })],
    [`${inPrefix}.schedule`, prefix({ schedule: 'step' })],
    [`${inPrefix}.initialization`, prefix({ initialization: 'text:' })],
    [`${inPrefix}.epochs`, prefix({ epochs: 3 })],
    [`${inPrefix}.warmup_steps`, prefix({ steps: 4, warmup_steps: 4 })],
    [`${inPrefix}.learning_rate_multiplier`, prefix({ learning_rate: 0.1, learning_rate_multiplier: 2 })],
    ['method.prefix.template', prefix({}, { template: 'none' })],
    ['method.prefix.validation_split', prefix({}, { validation_split: 0.95 })],
  ]
  for (const [param, fields] of bad) {
    const error = await errorOf(create(service, fields))
    assert.deepEqual(
      [error.param, error.status === 400 || error.status === 404],
      [param, true],
      `${param}: ${error.message}`,
    )
  }
  assert.equal(service.queue.data.size, 0)
})

test('a queue that is away is tried again, and then the error of a server', async (t) => {
  const service = await openClient(t)
  const training_file = await upload(service)
  service.queue.fails = new ServiceError('queue_unavailable', 'the queue gave no answer within 5000 ms')
  const asked = service.client.fineTuning.jobs.create({ model: model.name, training_file }, { maxRetries: 0 })
  const error = await errorOf(asked)
  assert.deepEqual([error.status, error.code], [503, 'queue_unavailable'])
  assert.ok(Number(error.headers?.get('retry-after')) > 0)
})

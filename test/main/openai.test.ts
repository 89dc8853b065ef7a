// OpenAI's official client against the whole service: it uploads, trains, follows, lists and generates, unchanged.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import OpenAI, { AuthenticationError, toFile } from 'openai'
import { startProcess, type ServiceProcess } from './process.ts'

const apiKey = 'a-key-of-the-inns-0123456789'
let folder: string
let service: ServiceProcess
let client: OpenAI
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-openai-'))
  service = await startProcess({ DATA: folder, API_KEYS: apiKey })
  client = new OpenAI({ baseURL: `${service.address}/v1`, apiKey })
})
after(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

const examples = Array.from({ length: 16 }, (_, i) => ({
  messages: [
    { role: 'user', content: `name : Inn ${i}` },
    { role: 'assistant', content: `There is an inn called Inn ${i}.` },
  ],
}))
const hyperparameters = {
  prefix_length: 5,
  steps: 12,
  batch_size: 4,
  reparametrization: 16,
  initialization: 'text:table to text',
  learning_rate: 0.01,
  n_epochs: 'auto',
}
const terminal = new Set(['succeeded', 'failed', 'cancelled'])

async function upload(more: readonly object[]): Promise<OpenAI.FileObject> {
  const lines = [...examples, ...more].map((example) => `${JSON.stringify(example)}\n`).join('')
  return client.files.create({ file: await toFile(Buffer.from(lines), 'inns.jsonl'), purpose: 'fine-tune' })
}

/** The client's types know no method but those of OpenAI; it sends what it is given. */
async function train(
  suffix: string,
  prefix: object = { hyperparameters },
  more: readonly object[] = [],
): Promise<OpenAI.FineTuning.FineTuningJob> {
  const [bare] = (await client.models.list()).data
  const { id } = await upload(more)
  const method = { type: 'prefix', prefix } as unknown as { type: 'supervised' }
  return client.fineTuning.jobs.create({ model: bare?.id ?? '', training_file: id, suffix, method })
}

async function ended(jobId: string): Promise<OpenAI.FineTuning.FineTuningJob> {
  for (const endMs = performance.now() + 120_000; performance.now() < endMs; await setTimeout(50)) {
    const job = await client.fineTuning.jobs.retrieve(jobId)
    if (terminal.has(job.status)) return job
  }
  throw new Error(`the job ${jobId} did not end`)
}

test('the client trains a prefix, follows its events to the end, finds it among the models and generates with it', async () => {
  const created = await train('inns')
  assert.ok(['queued', 'running'].includes(created.status), created.status)

  // As its users do: what is new since the last look, the oldest first.
  const seen = new Map<string, OpenAI.FineTuning.FineTuningJobEvent>()
  let job = created
  for (const endMs = performance.now() + 120_000; ; await setTimeout(50)) {
    assert.ok(performance.now() < endMs, `the job is ${job.status}`)
    job = await client.fineTuning.jobs.retrieve(job.id)
    const events = []
    for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 5 })) events.unshift(event)
    for (const event of events) seen.set(event.id, event)
    if (terminal.has(job.status)) break
  }
  assert.deepEqual([job.status, job.error, job.fine_tuned_model], ['succeeded', null, 'inns@1'])
  const messages = [...seen.values()].map(({ message }) => message)
  assert.equal(messages[0], `Created fine-tuning job: ${job.id}`)
  assert.ok(
    messages.some((message) => message.startsWith('Step 12/12: training loss=')),
    messages.join('\n'),
  )
  assert.equal(messages.at(-1), 'The training is done, new fine-tuned model: inns@1')
  const times = [...seen.values()].map(({ created_at: seconds }) => seconds)
  assert.ok(times.every((seconds, i) => i === 0 || seconds >= (times[i - 1] ?? 0)))
  // Each step of 4 examples has at least their 4 end-of-text tokens, and their words.
  assert.ok((job.trained_tokens ?? 0) > 12 * 4 * 5, `${job.trained_tokens} tokens`)

  const models = (await client.models.list()).data.map(({ id }) => id)
  assert.equal(models[1], 'inns@1')
  const asked = { model: 'inns@1', prompt: 'name : Inn 3', max_tokens: 12, temperature: 0 }
  const whole = await client.completions.create(asked)
  let streamed = ''
  let usage: OpenAI.CompletionUsage | null | undefined
  for await (const chunk of await client.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    streamed += chunk.choices[0]?.text ?? ''
    usage = chunk.usage
  }
  assert.equal(streamed, whole.choices[0]?.text)
  assert.ok(streamed.length > 0)
  assert.deepEqual(usage, whole.usage)

  const headers = { 'content-type': 'application/json', authorization: `Bearer ${apiKey}` }
  const body = JSON.stringify({ prefix: 'inns', input: 'name : Inn 3', maxNewTokens: 12 })
  const native = await fetch(`${service.address}/generate`, { method: 'POST', headers, body })
  const { outputs } = (await native.json()) as { outputs: { text: string; tokens: number }[] }
  assert.equal(whole.choices[0]?.text, outputs[0]?.text)
  assert.equal(whole.usage?.completion_tokens, outputs[0]?.tokens)
})

test('a training that cannot be done fails with its reason, and one that runs is cancelled', async () => {
  const long = { prompt: 'word '.repeat(400), completion: 'x' }
  const tooLong = await train('long', { hyperparameters, validation_split: 0 }, [long])
  const running = await train('busy', { hyperparameters: { ...hyperparameters, steps: 5_000 } })
  await client.fineTuning.jobs.cancel(running.id)
  assert.equal((await ended(running.id)).status, 'cancelled')
  const failed = await ended(tooLong.id)
  assert.deepEqual([failed.status, failed.error?.code, failed.fine_tuned_model], ['failed', 'input_too_long', null])
  assert.match(failed.error?.message ?? '', /example 17 comes to \d+ tokens/)
  const [last] = (await client.fineTuning.jobs.listEvents(failed.id)).data
  assert.equal(last?.level, 'error')
})

test('a client with another key is not let in', async () => {
  const stranger = new OpenAI({ baseURL: `${service.address}/v1`, apiKey: 'another-key-of-nobody-0123456789' })
  await assert.rejects(async () => stranger.models.list(), AuthenticationError)
})

// The main job from end to end on the default model: examples in, a prefix out, sentences from it, and bad input refused.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { startProcess, waitForJob, type ServiceProcess } from './process.ts'

let folder: string
let service: ServiceProcess
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-service-'))
  service = await startProcess({ DATA: folder }, { isFirst: true })
})
after(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

const examples = Array.from({ length: 16 }, (_, i) => ({
  input: `name : Inn ${i}`,
  output: `There is an inn called Inn ${i}.`,
}))
/** The learning rate is left open: it is chosen. */
const training = {
  prefixLength: 5,
  steps: 12,
  batchSize: 4,
  reparametrization: 16,
  initialization: 'text:table to text',
}
/** Nothing is left open, and nothing is tried before the training. */
const given = { ...training, learningRate: 0.01 }

interface Started {
  readonly id: string
  readonly jobId: string
  readonly version: number
}
interface Generated {
  readonly prefix: string | null
  readonly outputs: { readonly text: string; readonly tokens: number }[]
  readonly usage: Record<string, number>
}

async function train(extra: object = {}): Promise<Started> {
  const { status, body } = await service.request('POST', '/prefixes', { name: 'inns', examples, training, ...extra })
  assert.equal(status, 202, JSON.stringify(body))
  return body
}

test('a prefix is trained, found by id and name, used, and its record tells how it was made', async () => {
  const { id, jobId, version } = await train()
  assert.equal(version, 1)
  const job = await waitForJob(service, jobId, ({ status }) => status === 'succeeded' || status === 'failed')
  assert.deepEqual([job.status, job.error], ['succeeded', null])

  const { body: record } = (await service.request('GET', '/prefixes/inns')) as { body: Record<string, unknown> }
  assert.equal(record['id'], id)
  assert.equal(record['status'], 'ready')
  assert.equal(record['prefixLength'], 5)
  const { seed, steps, learningRate, initialization } = record['training'] as {
    seed: number
    steps: number
    learningRate: number
    initialization: string
  }
  assert.deepEqual([seed, steps, initialization], [1, 12, 'text:table to text'])
  assert.ok(learningRate > 0)
  assert.ok((record['samples'] as { output: string }[]).every(({ output }) => typeof output === 'string'))

  for (const prefix of [id, 'inns', 'inns@1', null]) {
    const { status, body } = (await service.request('POST', '/generate', {
      prefix,
      input: ['name : Inn 3', 'name : Inn 4'],
      maxNewTokens: 12,
    })) as { status: number; body: Generated }
    assert.equal(status, 200)
    assert.equal(body.outputs.length, 2)
    assert.equal(body.usage['prefixTokens'], prefix === null ? 0 : 10)
    assert.equal(
      body.usage['outputTokens'],
      body.outputs.reduce((sum, { tokens }) => sum + tokens, 0),
    )
  }
})

test('an exported prefix comes in again under another name and says the same', async () => {
  const artifact = new Uint8Array(await (await fetch(`${service.address}/prefixes/inns/artifact`)).arrayBuffer())
  const form = new FormData()
  form.set('name', 'copied')
  form.set('artifact', new Blob([artifact]), 'prefix.safetensors')
  const response = await fetch(`${service.address}/prefixes/import`, { method: 'POST', body: form })
  assert.equal(response.status, 201, await response.text())
  const ask = async (prefix: string): Promise<Generated> =>
    (await service.request('POST', '/generate', { prefix, input: 'name : Inn 9', maxNewTokens: 10 })).body
  assert.deepEqual((await ask('copied')).outputs, (await ask('inns')).outputs)
})

test('a truncated artifact and one for another model are refused, and the service stays up', async () => {
  const artifact = new Uint8Array(await (await fetch(`${service.address}/prefixes/inns/artifact`)).arrayBuffer())
  const send = async (
    bytes: Uint8Array<ArrayBuffer>,
  ): Promise<{ status: number; body: { type: string; detail: string } }> => {
    const form = new FormData()
    form.set('artifact', new Blob([bytes]), 'prefix.safetensors')
    const response = await fetch(`${service.address}/prefixes/import`, { method: 'POST', body: form })
    return { status: response.status, body: (await response.json()) as { type: string; detail: string } }
  }
  const truncated = await send(artifact.slice(0, artifact.length - 7))
  assert.deepEqual([truncated.status, truncated.body.type], [422, '/errors#prefix_invalid'])

  const { sha256 } = ((await service.request('GET', '/prefixes/inns')).body as { model: { sha256: string } }).model
  const text = Buffer.from(artifact).toString('latin1').replace(sha256, 'f'.repeat(64))
  const foreign = await send(Uint8Array.from(Buffer.from(text, 'latin1')))
  assert.deepEqual([foreign.status, foreign.body.type], [409, '/errors#prefix_model_mismatch'])
  assert.match(
    foreign.body.detail,
    new RegExp(`${'f'.repeat(8)}.*${sha256.slice(0, 8)}|${sha256.slice(0, 8)}.*${'f'.repeat(8)}`, 's'),
  )
  assert.equal((await service.request('GET', '/healthz')).status, 200)
})

for (const [what, body, status, code] of [
  ['an input longer than the context', { prefix: 'inns', input: 'word '.repeat(400) }, 422, 'input_too_long'],
  ['more new tokens than the context has', { prefix: null, input: 'a', maxNewTokens: 4000 }, 422, 'input_too_long'],
  ['a prefix that is not there', { prefix: 'nobody', input: 'a' }, 404, 'prefix_not_found'],
  ['a version that is not there', { prefix: 'inns@99', input: 'a' }, 404, 'prefix_not_found'],
  ['a field that nobody knows', { prefix: 'inns', input: 'a', temprature: 1 }, 400, 'invalid_request'],
] as const) {
  test(`${what} is refused with ${code}`, async () => {
    const answer = (await service.request('POST', '/generate', body)) as { status: number; body: { type: string } }
    assert.deepEqual([answer.status, answer.body.type], [status, `/errors#${code}`])
  })
}

test('an example that does not fit fails its job with the example named, once, and the prefix record says so', async () => {
  const { id, jobId } = await train({
    name: 'long',
    examples: [...examples, { input: 'word '.repeat(400), output: 'x' }],
    validation: 0,
  })
  const job = await waitForJob(service, jobId, ({ status }) => status === 'failed')
  assert.equal(job.attempts, 1)
  const { body } = (await service.request('GET', `/prefixes/${id}`)) as {
    body: { status: string; error: { code: string; detail: string } }
  }
  assert.equal(body.status, 'failed')
  assert.equal(body.error.code, 'input_too_long')
  assert.match(body.error.detail, /example 17 comes to \d+ tokens/)
})

test('while a training runs the service answers and generates; a running training can be cancelled', async () => {
  const { id, jobId } = await train({ name: 'busy', training: { ...given, steps: 5000 } })
  await waitForJob(service, jobId, ({ progress }) => (progress?.step ?? 0) > 3)
  assert.equal((await service.request('GET', '/healthz')).status, 200)
  const { status } = await service.request('POST', '/generate', {
    prefix: 'inns',
    input: 'name : Inn 1',
    maxNewTokens: 20,
  })
  assert.equal(status, 200)
  await service.request('DELETE', `/jobs/${jobId}`)
  await waitForJob(service, jobId, (job) => job.status === 'cancelled')
  assert.equal(((await service.request('GET', `/prefixes/${id}`)).body as { status: string }).status, 'cancelled')
})

test('a deleted prefix is gone, and its version is not given out again', async () => {
  const { id, jobId } = await train({ name: 'brief', training: given })
  await waitForJob(service, jobId, ({ status }) => status === 'succeeded')
  assert.equal((await service.request('DELETE', '/prefixes/brief')).status, 204)
  assert.equal((await service.request('GET', `/prefixes/${id}`)).status, 404)
  const again = await train({ name: 'brief', training: given })
  assert.equal(again.version, 2)
  await waitForJob(service, again.jobId, ({ status }) => status === 'succeeded')
})

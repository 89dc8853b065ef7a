// The whole service on a BART: prefixes trained, measured, used, moved and made again, over HTTP and on the command line.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import type { Evaluation } from '../../src/prefix/evaluations.ts'
import type { PrefixRecord } from '../../src/prefix/record.ts'
import { writeBartFolder } from './bart-folder.ts'
import { startProcess, waitForJob, type ServiceProcess } from './process.ts'

let folder: string
let env: Record<string, string> & { readonly DATA: string }
let service: ServiceProcess
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-bart-service-'))
  const model = path.join(folder, 'tiny-bart')
  await mkdir(model)
  await writeBartFolder(model)
  env = { DATA: path.join(folder, 'data'), MODEL: model, RUNTIME: 'onnx' }
  service = await startProcess(env)
})
after(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

const examples = Array.from({ length: 20 }, (_, i) => ({ input: `inn ${i}`, output: `The inn ${i}.` }))
const training = {
  prefixLength: 4,
  steps: 40,
  batchSize: 8,
  reparametrization: 16,
  initialization: 'random',
  learningRate: 1e-2,
}

async function train(name: string, changes: object = {}, validation = 0.2): Promise<PrefixRecord> {
  const body = { name, examples, validation, training: { ...training, ...changes } }
  const { status, body: accepted } = await service.request('POST', '/prefixes', body)
  assert.equal(status, 202, JSON.stringify(accepted))
  const job = await waitForJob(service, (accepted as { jobId: string }).jobId, (each) =>
    ['succeeded', 'failed'].includes(each.status),
  )
  assert.deepEqual([job.status, job.error], ['succeeded', null])
  return (await service.request('GET', `/prefixes/${name}`)).body
}

interface Generated {
  readonly outputs: { readonly text: string; readonly finishReason: string; readonly tokens: number }[]
  readonly usage: Record<string, number>
}
async function generate(body: object): Promise<Generated> {
  const { status, body: answer } = await service.request('POST', '/generate', { maxNewTokens: 12, ...body })
  assert.equal(status, 200, JSON.stringify(answer))
  return answer
}

test('a prefix at all three places is trained with figures and samples, and used beside the bare model', async () => {
  const record = await train('inns')
  assert.equal(record.template, '{input}')
  assert.equal(record.samples.length, 4)
  assert.ok('bleu' in record.metrics)
  assert.deepEqual(record.training['attachments'], ['decoder_self', 'cross', 'encoder_self'])
  const one = await generate({ prefix: 'inns', input: 'inn 3' })
  const both = await generate({ prefix: 'inns', input: ['inn 3', 'inn 17'] })
  assert.deepEqual(both.outputs[0], one.outputs[0])
  // Begin, five characters and end.
  assert.deepEqual([one.usage['inputTokens'], one.usage['prefixTokens']], [7, 4])
  const bare = await generate({ prefix: null, input: 'inn 3' })
  assert.notEqual(bare.outputs[0]?.text, one.outputs[0]?.text)
  for (const { text } of both.outputs) assert.ok(!/<\/?s>/.test(text), text)
  const beams = { strategy: 'beam', beams: 6, lengthPenalty: 0.8, noRepeatNgramSize: 3, n: 2 }
  assert.equal((await generate({ prefix: 'inns', input: 'inn 3', minNewTokens: 5, decoding: beams })).outputs.length, 2)
})

test('a prefix at one place alone is another one, and places that there are not are refused by field', async () => {
  await train('crossed', { attachments: ['cross'] })
  const crossed = await generate({ prefix: 'crossed', input: 'inn 3' })
  assert.equal(crossed.outputs.length, 1)
  const answer = (await service.request('POST', '/prefixes', {
    examples,
    training: { ...training, variant: 'embedding', reparametrization: null },
  })) as { status: number; body: { errors: { pointer: string }[] } }
  assert.equal(answer.status, 400)
  assert.deepEqual(
    answer.body.errors.map(({ pointer }) => pointer),
    ['/training/variant'],
  )
})

test('its artifact comes back under another name, and to PEFT it does not go, with the reason', async () => {
  const artifact = new Uint8Array(await (await fetch(`${service.address}/prefixes/inns/artifact`)).arrayBuffer())
  const form = new FormData()
  form.set('name', 'copied')
  form.set('artifact', new Blob([artifact]), 'prefix.safetensors')
  const response = await fetch(`${service.address}/prefixes/import`, { method: 'POST', body: form })
  assert.equal(response.status, 201, await response.text())
  const [copied, own] = [
    await generate({ prefix: 'copied', input: 'x' }),
    await generate({ prefix: 'inns', input: 'x' }),
  ]
  assert.deepEqual(copied.outputs, own.outputs)
  const peft = await service.request('GET', '/prefixes/inns/artifact?format=peft')
  assert.equal(peft.status, 422)
  assert.match((peft.body as { detail: string }).detail, /attached to decoder_self and cross and encoder_self/)
})

test('an evaluation measures it beside the bare model', async () => {
  const asked = { examples: [{ input: 'inn 31', output: 'The inn 31.' }], maxNewTokens: 12 }
  const { body } = await service.request('POST', '/prefixes/inns/evaluations', asked)
  const job = await waitForJob(
    service,
    (body as { jobId: string }).jobId,
    ({ status }) => status !== 'queued' && status !== 'running',
  )
  assert.deepEqual([job.status, job.error], ['succeeded', null])
  const { data } = (await service.request('GET', '/prefixes/inns/evaluations')).body as { data: Evaluation[] }
  const [{ prefix, bare, loss } = assert.fail()] = data
  assert.ok('bleu' in prefix.metrics && bare !== null && (loss ?? 0) > 0)
})

test('an input that the encoder cannot read is refused', async () => {
  const { status, body } = await service.request('POST', '/generate', { prefix: 'inns', input: 'x'.repeat(200) })
  assert.equal(status, 422)
  assert.match((body as { detail: string }).detail, /comes to 202 tokens, and the model's encoder reads 128/)
})

test('it is made again from its record, bit for bit', async () => {
  const child = spawn(process.execPath, ['dist/src/cli/cli.js', 'reproduce', 'inns'], {
    env: { PATH: process.env['PATH'], THREADS: '2', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (printed += bytes.toString()))
  const code = await new Promise((resolve) => child.once('exit', resolve))
  assert.equal(code, 0, printed)
})

// Evaluation and reproduction from end to end on the default model, over HTTP and on the command line.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import type { Evaluation } from '../../src/prefix/evaluations.ts'
import type { PrefixRecord } from '../../src/prefix/record.ts'
import { startProcess, waitForJob, type ServiceProcess } from './process.ts'

let folder: string
let service: ServiceProcess
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-evaluate-'))
  service = await startProcess({ DATA: folder })
})
after(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

const examples = Array.from({ length: 20 }, (_, i) => ({
  input: `name : Inn ${i}`,
  output: `There is an inn called Inn ${i}.`,
}))

async function ended(jobId: string): Promise<void> {
  const { status, error } = await waitForJob(service, jobId, (job) => ['succeeded', 'failed'].includes(job.status))
  assert.deepEqual([status, error], ['succeeded', null])
}

async function find(): Promise<PrefixRecord> {
  return (await service.request('GET', '/prefixes/inns')).body
}

test('a training ends with figures, an evaluation sets baselines beside newer ones, and the record says how it was made', async () => {
  const training = { prefixLength: 5, steps: 12, batchSize: 4, reparametrization: 16, learningRate: 0.01 }
  const body = { name: 'inns', examples, validation: 0.2, training }
  const { jobId } = (await service.request('POST', '/prefixes', body)).body as { jobId: string }
  await ended(jobId)
  const trained = await find()
  assert.ok((trained.metrics['bleu'] ?? -1) >= 0, JSON.stringify(trained.metrics))
  assert.deepEqual([trained.metrics['examples'], trained.samples.length, trained.validation], [4, 4, 0.2])
  for (const name of ['codeVersion', 'threads', 'platform', 'cpu', 'runtime', 'seed', 'steps', 'learningRate'])
    assert.ok(trained.training[name] !== undefined, name)

  const asked = [
    { input: 'name : Inn 31', outputs: ['There is an inn called Inn 31.', 'Inn 31 is an inn.'] },
    { input: 'name : Inn 32', output: 'There is an inn called Inn 32.' },
  ]
  const options = { examples: asked, maxNewTokens: 16 }
  const accepted = await service.request('POST', '/prefixes/inns/evaluations', options)
  assert.equal(accepted.status, 202)
  await ended((accepted.body as { jobId: string }).jobId)
  const { data } = (await service.request('GET', '/prefixes/inns/evaluations')).body as { data: Evaluation[] }
  const [{ prefix, bare, fewShot, loss, samples, references } = assert.fail()] = data
  assert.equal(data.length, 1)
  for (const { metrics } of [prefix, bare ?? assert.fail(), fewShot ?? assert.fail()]) assert.ok('bleu' in metrics)
  assert.ok(loss !== null && loss > 0 && fewShot?.promptExamples === 3 && references === 3)
  assert.deepEqual((await find()).metrics, { ...prefix.metrics, examples: 2 })

  // The texts are those that the service gives.
  for (const [name, key] of [
    ['inns', 'prefix'],
    [null, 'bare'],
  ] as const) {
    const input = asked.map((example) => example.input)
    const generated = await service.request('POST', '/generate', { prefix: name, input, maxNewTokens: 16 })
    const { outputs } = generated.body as { outputs: { text: string }[] }
    assert.deepEqual(
      samples.map((sample) => sample[key]),
      outputs.map(({ text }) => text),
    )
  }
})

test('preamble reproduce trains a prefix again beside the running service, with the threads of its record', async () => {
  const identical = await run('reproduce', 'inns')
  assert.equal(identical.code, 0, identical.printed)
  const { artifactSha256 } = await find()
  assert.match(identical.printed, new RegExp(`inns@1 .*${artifactSha256}.*2 threads\n`, 's'))
  assert.match(identical.printed, /step 12 of 12 .*Identical: all \d+ keys and values/s)

  const absent = await run('reproduce', 'nobody')
  assert.deepEqual([absent.code, absent.printed], [1, 'prefix_not_found: there is no prefix "nobody"\n'])
  const unknown = await run('repeat')
  assert.equal(unknown.code, 2)
  assert.match(unknown.printed, /^usage: /)
})

function run(...args: readonly string[]): Promise<{ readonly code: number | null; readonly printed: string }> {
  const env = { PATH: process.env['PATH'], DATA: folder, THREADS: '1' }
  const child = spawn(process.execPath, ['dist/src/cli/cli.js', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const pieces: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => pieces.push(bytes.toString()))
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, printed: pieces.join('') })))
}

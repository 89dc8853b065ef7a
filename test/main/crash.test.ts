// kill -9 of the whole service in the middle of a training: after a restart it ends where an undisturbed one ends.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { isAlive, livingChildren, startProcess, waitForJob, type ServiceProcess } from './process.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-crash-'))
})
after(async () => {
  await rm(folder, { recursive: true, force: true })
})

const request = {
  examples: Array.from({ length: 20 }, (_, i) => ({
    input: `name : Place ${i} | type : inn`,
    output: `Place ${i} is an inn.`,
  })),
  validation: 0.2,
  training: { prefixLength: 4, steps: 220, batchSize: 2, reparametrization: 16, seed: 3 },
}

async function train(service: ServiceProcess): Promise<{ id: string; jobId: string }> {
  const { status, body } = await service.request('POST', '/prefixes', request)
  assert.equal(status, 202)
  return body
}

async function artifactOf(service: ServiceProcess, id: string): Promise<string> {
  const { body } = (await service.request('GET', `/prefixes/${id}`)) as {
    body: { status: string; artifactSha256: string }
  }
  assert.equal(body.status, 'ready')
  return body.artifactSha256
}

test('a killed service goes on from its last checkpoint, and the prefix is bit for bit the same', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, async () => {
  const disturbed = path.join(folder, 'disturbed')
  let service = await startProcess({ DATA: disturbed })
  const { id, jobId } = await train(service)
  // A checkpoint is written after 100 steps.
  await waitForJob(service, jobId, ({ progress }) => (progress?.step ?? 0) > 110)
  const children = await livingChildren(service.child.pid as number)
  assert.ok(children.length > 0, 'the training runs in a child process')
  await service.stop('SIGKILL')
  for (let waits = 0; waits < 100 && (await Promise.all(children.map(isAlive))).some(Boolean); waits++)
    await setTimeout(50)
  assert.deepEqual(
    await Promise.all(children.map(isAlive)),
    children.map(() => false),
    'the child died with its parent',
  )

  service = await startProcess({ DATA: disturbed })
  const job = await waitForJob(service, jobId, ({ status }) => status === 'succeeded' || status === 'failed')
  assert.deepEqual([job.status, job.error], ['succeeded', null])
  assert.ok(job.attempts >= 2, 'it was started again')
  const resumed = await artifactOf(service, id)
  await service.stop()

  const undisturbed = await startProcess({ DATA: path.join(folder, 'undisturbed') })
  const other = await train(undisturbed)
  await waitForJob(undisturbed, other.jobId, ({ status }) => status === 'succeeded')
  assert.equal(await artifactOf(undisturbed, other.id), resumed)
  await undisturbed.stop()
})

// Prefix records stay true to what became of their trainings, also where the queue forgot them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failLostTrainings, recordEnd } from '../../src/main/ends.ts'
import type { Job } from '../../src/jobs/job.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { MemoryStore } from '../../src/store/memory.ts'

const silent = { warn: () => undefined }
const asked = {
  name: null,
  template: '{input}',
  prefixLength: 5,
  training: {},
  dataset: null,
  model: { name: 'm', sha256: 'a'.repeat(64) },
  tokenizerSha256: 'b'.repeat(64),
}

async function oldRegistry(): Promise<PrefixRegistry> {
  const store = new MemoryStore()
  const registry = new PrefixRegistry(store)
  for (const jobId of ['job_known', 'job_lost']) await registry.create({ ...asked, jobId })
  for await (const key of store.list('prefixes/')) {
    const record = JSON.parse(new TextDecoder().decode(await store.get(key))) as object
    await store.put(key, new TextEncoder().encode(JSON.stringify({ ...record, createdAt: '2020-01-01T00:00:00.000Z' })))
  }
  return new PrefixRegistry(store)
}

test('a prefix whose job the queue does not know is marked as failed, the others are left alone', async () => {
  const registry = await oldRegistry()
  await failLostTrainings(registry, { get: async (id) => (id === 'job_known' ? ({} as Job) : null) }, silent)
  const { data } = await registry.list({ limit: 10 })
  assert.deepEqual(Object.fromEntries(data.map(({ jobId, status }) => [jobId, status])), {
    job_known: 'queued',
    job_lost: 'failed',
  })
  assert.match(data.find(({ jobId }) => jobId === 'job_lost')?.error?.detail ?? '', /job job_lost is not in the queue/)
})

test('a young prefix is left alone: its job may be on the way', async () => {
  const registry = new PrefixRegistry(new MemoryStore())
  await registry.create({ ...asked, jobId: 'job_new' })
  await failLostTrainings(registry, { get: async () => null }, silent)
  assert.equal((await registry.list({ limit: 1 })).data[0]?.status, 'queued')
})

test('the end of a training goes into its record, and its checkpoint away; a deleted prefix is no error', async () => {
  const registry = new PrefixRegistry(new MemoryStore())
  const { id } = await registry.create({ ...asked, jobId: 'job_1' })
  const deleted: string[] = []
  const onEnd = recordEnd(registry, { delete: async (jobId) => void deleted.push(jobId) })
  const error = { code: 'training_diverged', detail: 'step 3' }
  await onEnd('job_1', id, 'failed', error)
  const record = await registry.find(id)
  assert.deepEqual([record.status, record.error, deleted], ['failed', error, ['job_1']])
  await registry.delete(id)
  await onEnd('job_1', id, 'cancelled', null)
})

// The embedded queue in a folder: one process at a time, and nothing lost when that one is killed.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { openBroker } from '../../src/jobs/broker.ts'
import { createJobId, type JobEvent } from '../../src/jobs/job.ts'
import { openJobQueue } from '../../src/jobs/queue.ts'
import { startWorker, type JobEnd } from '../../src/jobs/worker.ts'
import { follow, goneWithin, lockMs, processorFile, quiet } from './fixtures.ts'

test('a killed service goes on with its job when it is started again', { timeout: 60_000 }, async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-embedded-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const url = `pglite:${path.join(folder, 'queue')}`
  const jobId = createJobId()
  const killed = fork(new URL('./worker-process.js', import.meta.url), [url, 'kept', jobId, 'hold-first'])
  const child = await new Promise<number>((resolve) => {
    killed.on('message', (message: JobEvent | 'ready') => {
      if (message !== 'ready' && message.type === 'progress') resolve(Number(message.data.tokensPerSecond))
    })
  })
  await assert.rejects(openBroker(url), (error: Error & { code: string }) => {
    assert.equal(error.code, 'config_invalid')
    assert.ok(error.message.includes(path.join(folder, 'queue')), error.message)
    return true
  })
  killed.kill('SIGKILL')
  await once(killed, 'exit')
  assert.ok(await goneWithin(child, 5_000), 'the training child outlived its parent')

  const broker = await openBroker(url, { keyspace: 'kept' })
  const queue = openJobQueue(broker)
  const ends: string[] = []
  const onEnd: JobEnd = async (id, _prefixId, status) => void ends.push(`${id} ${status}`)
  const worker = startWorker({
    broker,
    processorFile,
    processesMax: 1,
    jobsPerProcess: 1,
    lockMs,
    env: process.env,
    log: quiet,
    onEnd,
  })
  const events = await follow(queue, jobId)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['started', 'progress', 'started', 'succeeded'],
  )
  assert.deepEqual(ends, [`${jobId} succeeded`])
  await worker.stop()
  await queue.close()
  await broker.close()
})

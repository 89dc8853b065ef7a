// What the jobs must do on every queue server. Each server's own test file runs this suite against it.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { openBroker, type Broker, type QueuedJob } from '../../src/jobs/broker.ts'
import { countOf, createJobId, type Job } from '../../src/jobs/job.ts'
import { openJobQueue, type BrokerJobQueue } from '../../src/jobs/queue.ts'
import {
  endOf,
  evaluationData,
  eventWhere,
  follow,
  goneWithin,
  jobData,
  patienceMs,
  workFor,
  type UseWorker,
} from './fixtures.ts'
import type { TestServer } from './servers.ts'

export interface ContractServer {
  /** Why the suite cannot run here; null: it can. */
  readonly skip: string | null
  /** Whether other processes can reach the queue. */
  readonly shared: boolean
  start(): Promise<TestServer>
}

const keyspace = 'contract'

export function describeJobQueue(name: string, contract: ContractServer): void {
  describe(name, { skip: contract.skip ?? false, timeout: 120_000 }, () => {
    let server: TestServer
    let broker: Broker
    let queue: BrokerJobQueue
    const cancelledEarly: string[] = []

    before(async () => {
      server = await contract.start()
      broker = await openBroker(server.url, { keyspace, retryDelayMs: 50 })
      queue = openJobQueue(broker, { onCancelled: async (jobId) => void cancelledEarly.push(jobId) })
    })

    after(async () => {
      await queue.close()
      await broker.close()
      await server.close()
    })

    const withWorker = <T>(use: UseWorker<T>): Promise<T> => workFor(broker, use)

    async function enqueue(template: string): Promise<string> {
      const jobId = createJobId()
      await queue.enqueue(jobId, jobData(template))
      return jobId
    }

    async function get(jobId: string): Promise<Job> {
      const job = await queue.get(jobId)
      assert.ok(job, `there is no job ${jobId}`)
      return job
    }

    test('a job that nobody has taken is queued, and putting it in line again changes nothing', async () => {
      const jobId = await enqueue('steps 1')
      await queue.enqueue(jobId, jobData('throw again'))
      const job = await get(jobId)
      assert.equal(Number.isNaN(Date.parse(job.createdAt)), false)
      assert.deepEqual(job, {
        id: jobId,
        type: 'train',
        status: 'queued',
        prefixId: 'pfx_steps1',
        progress: null,
        attempts: 0,
        error: null,
        createdAt: job.createdAt,
        startedAt: null,
        finishedAt: null,
      })
      assert.equal(await queue.get('job_absent'), null)
      await queue.ping()
    })

    test('jobs are listed newest first, in pages, and by status', async () => {
      const ids = Array.from({ length: 5 }, createJobId)
      for (const id of ids) await queue.enqueue(id, jobData('steps 1'))
      await queue.cancel(ids[2] ?? '')
      const pages = []
      for (let cursor: string | undefined; pages.length < 2; ) {
        const page = await queue.list({ limit: 2, ...(cursor !== undefined && { cursor }) })
        pages.push(page.data.map(({ id }) => id))
        cursor = page.next ?? assert.fail('there are more jobs than two pages')
      }
      assert.deepEqual(pages, [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
      ])
      const cancelled = await queue.list({ status: 'cancelled', limit: 10 })
      assert.deepEqual(cancelled, { data: [await get(ids[2] ?? '')], next: null })
      const queued = await queue.list({ status: 'queued', limit: 4 })
      assert.deepEqual(
        queued.data.map(({ id }) => id),
        [ids[4], ids[3], ids[1], ids[0]],
      )
      assert.deepEqual((await queue.list({ status: 'succeeded', limit: 10 })).data, [])
      await assert.rejects(queue.list({ limit: 2, cursor: "'; drop" }), { code: 'invalid_request' })
    })

    test('a waiting job that is cancelled never runs, and stays visible as cancelled', async () => {
      const jobId = await enqueue('steps 3')
      await queue.cancel(jobId)
      const before = await get(jobId)
      assert.equal(before.status, 'cancelled')
      assert.deepEqual(before.error, { code: 'cancelled', detail: 'the job was cancelled' })
      assert.ok(before.finishedAt !== null && before.startedAt === null)
      assert.ok(cancelledEarly.includes(jobId), 'the end was not told')
      const events = await follow(queue, jobId)
      assert.deepEqual(
        events.map(({ id, type }) => [id, type]),
        [[1, 'cancelled']],
      )
      await assert.rejects(queue.cancel(jobId), { code: 'job_finished' })
      await assert.rejects(queue.cancel('job_absent'), { code: 'job_not_found' })
      await withWorker(async (ends) => {
        await follow(queue, await enqueue('steps 1'))
        assert.deepEqual(
          ends.filter(([id]) => id === jobId),
          [[jobId, 'pfx_steps3', 'cancelled', before.error]],
        )
      })
      assert.deepEqual(await get(jobId), before)
    })

    test('an evaluation is told, retried and cancelled as a training is, and its end is its own affair', async () => {
      const [counted, mortal, held] = [createJobId(), createJobId(), createJobId()]
      await queue.enqueue(counted, evaluationData('steps 3'))
      await queue.enqueue(mortal, evaluationData('die 1'))
      await queue.enqueue(held, evaluationData('hold'))
      assert.deepEqual([(await get(counted)).type, (await get(counted)).status], ['evaluate', 'queued'])
      const waiting = createJobId()
      await queue.enqueue(waiting, evaluationData('steps 1'))
      await queue.cancel(waiting)
      assert.deepEqual([(await get(waiting)).status, cancelledEarly.includes(waiting)], ['cancelled', false])
      await withWorker(async (ends) => {
        const events = await follow(queue, counted)
        assert.deepEqual(
          events.map(({ type, data }) => [type, data.example]),
          [
            ['started', undefined],
            ['progress', 1],
            ['progress', 2],
            ['progress', 3],
            ['succeeded', undefined],
          ],
        )
        assert.deepEqual((await get(counted)).progress, { example: 3, examples: 3, etaMs: 0 })
        assert.equal((await follow(queue, mortal)).at(-1)?.type, 'succeeded')
        assert.equal((await get(mortal)).attempts, 2)
        await eventWhere(queue, held, ({ type }) => type === 'progress')
        await queue.cancel(held)
        assert.equal((await follow(queue, held)).at(-1)?.type, 'cancelled')
        // What an evaluation comes to must not be taken for what became of the prefix.
        assert.deepEqual(ends, [])
      })
    })

    test('a history is told as it happens, and again from any event on', async () => {
      const jobId = await enqueue('steps 5')
      assert.deepEqual(await queue.eventsSoFar(jobId), [])
      await assert.rejects(queue.eventsSoFar('job_absent'), { code: 'job_not_found' })
      const live = follow(queue, jobId)
      await withWorker(async (ends) => {
        const events = await live
        assert.deepEqual(
          events.map(({ id }) => id),
          events.map((_, i) => i + 1),
        )
        assert.deepEqual(
          events.map(({ type }) => type),
          ['started', ...Array<string>(5).fill('progress'), 'succeeded'],
        )
        assert.deepEqual(
          events.slice(1, 6).map(({ data }) => data.step),
          [1, 2, 3, 4, 5],
        )
        for (const id of [0, 3, 6, 7]) assert.deepEqual(await follow(queue, jobId, id), events.slice(id))
        assert.deepEqual(await queue.eventsSoFar(jobId), events)
        assert.ok(events.every(({ data }) => Date.parse(String(data.at)) > 0))
        assert.deepEqual(
          ends.find(([id]) => id === jobId),
          [jobId, 'pfx_steps5', 'succeeded', null],
        )
      })
      const job = await get(jobId)
      assert.deepEqual([job.status, job.attempts, job.progress && countOf(job.progress).done], ['succeeded', 1, 5])
      assert.equal(job.error, null)
      assert.ok(job.startedAt !== null && job.finishedAt !== null)
      await assert.rejects(queue.cancel(jobId), { code: 'job_finished' })
    })

    test('a reader that leaves early is let go', async () => {
      const jobId = await enqueue('steps 1')
      const leaving = new AbortController()
      const read = (async () => {
        for await (const event of queue.events(jobId, 0, leaving.signal)) assert.fail(event.type)
      })()
      await queue.ping()
      leaving.abort()
      await read
      await assert.rejects(follow(queue, 'job_absent'), { code: 'job_not_found' })
    })

    test('what only the caller can mend fails at once, with its code', async () => {
      const jobId = await enqueue('fail examples_invalid')
      await withWorker(async (ends) => {
        const problem = { code: 'examples_invalid', detail: 'failed with examples_invalid' }
        const events = await follow(queue, jobId)
        assert.deepEqual(
          events.map(({ type }) => type),
          ['started', 'failed'],
        )
        assert.deepEqual(events.at(-1)?.data.error, problem)
        const { status, error, attempts } = await get(jobId)
        assert.deepEqual({ status, error, attempts }, { status: 'failed', error: problem, attempts: 1 })
        assert.deepEqual(ends.find(([id]) => id === jobId)?.slice(2), ['failed', problem])
      })
    })

    test('other failures are tried three times', async () => {
      const [thrown, full] = [await enqueue('throw tantrum'), await enqueue('fail store_full')]
      await withWorker(async (ends) => {
        for (const jobId of [thrown, full]) {
          assert.equal((await follow(queue, jobId)).filter(({ type }) => type === 'started').length, 3)
          assert.equal((await get(jobId)).attempts, 3)
          assert.equal(ends.filter(([id]) => id === jobId).length, 1)
        }
        assert.deepEqual((await get(thrown)).error, { code: 'engine_failed', detail: 'thrown: tantrum' })
        assert.equal((await get(full)).error?.code, 'store_full')
        const failed = await queue.list({ status: 'failed', limit: 10 })
        assert.ok(failed.data.some(({ id }) => id === thrown))
      })
    })

    test('a child that is killed is replaced and its job retried, in the end failed with advice', async () => {
      const [once, always] = [await enqueue('die 1'), await enqueue('die 9')]
      await withWorker(async () => {
        assert.equal((await follow(queue, once)).at(-1)?.type, 'succeeded')
        assert.equal((await get(once)).attempts, 2)
        assert.equal((await follow(queue, always)).at(-1)?.type, 'failed')
        const { error, attempts } = await get(always)
        assert.deepEqual([error?.code, attempts], ['engine_failed', 3])
        assert.match(error?.detail ?? '', /SIGKILL.*memory/)
      })
    })

    test('a child that runs out of memory fails its job with advice, and the worker goes on with the next', async () => {
      const [aborted, next] = [await enqueue('abort'), await enqueue('steps 1')]
      await withWorker(async () => {
        assert.equal((await follow(queue, aborted)).at(-1)?.type, 'failed')
        const { error } = await get(aborted)
        assert.equal(error?.code, 'engine_failed')
        assert.match(error?.detail ?? '', /aborted \(SIGABRT\), .*memory: take a smaller batchSize/)
        assert.equal((await follow(queue, next)).at(-1)?.type, 'succeeded')
      })
    })

    test('a running job is cancelled by a message, and without one by the wish in the job', async () => {
      const [told, found] = [await enqueue('hold'), await enqueue('hold')]
      await withWorker(async (ends) => {
        for (const jobId of [told, found]) await eventWhere(queue, jobId, ({ type }) => type === 'progress')
        assert.equal((await get(told)).status, 'running')
        await queue.cancel(told)
        const job: QueuedJob | undefined = await broker.queue.getJob(found)
        await job?.updateData({ ...job.data, cancel: { at: Date.now(), waiting: false, attempts: 1 } })
        for (const jobId of [told, found]) {
          assert.deepEqual(
            (await follow(queue, jobId)).map(({ type }) => type),
            ['started', 'progress', 'cancelled'],
          )
          assert.equal((await get(jobId)).status, 'cancelled')
          assert.equal(ends.find(([id]) => id === jobId)?.[2], 'cancelled')
        }
      })
    })

    test('a worker that stops hands its jobs back, and the next one finishes them', async () => {
      const jobId = await enqueue('hold-first')
      await withWorker(async (ends, worker) => {
        await eventWhere(queue, jobId, ({ type }) => type === 'progress')
        const startMs = performance.now()
        await worker.stop()
        assert.ok(performance.now() - startMs < 5_000, 'the worker took too long to stop')
        assert.equal((await get(jobId)).status, 'queued')
        assert.equal(ends.length, 0)
      })
      await withWorker(async () => {
        const types = (await follow(queue, jobId)).map(({ type }) => type)
        assert.deepEqual(types, ['started', 'progress', 'started', 'succeeded'])
        assert.equal((await get(jobId)).attempts, 2)
      })
    })

    const single = contract.shared ? false : 'no other process can reach this queue'
    test('the job of a worker that was killed is taken up by another', {
      skip: single,
      timeout: patienceMs,
    }, async () => {
      const jobId = await enqueue('hold-first')
      const other = fork(new URL('./worker-process.js', import.meta.url), [server.url, keyspace])
      const { data } = await eventWhere(queue, jobId, ({ type }) => type === 'progress')
      other.kill('SIGKILL')
      await once(other, 'exit')
      assert.ok(await goneWithin(Number(data.tokensPerSecond), 5_000), 'the training child outlived its parent')
      await withWorker(async () => {
        assert.equal((await follow(queue, jobId)).at(-1)?.type, 'succeeded')
        assert.equal((await get(jobId)).attempts, 2)
      })
    })

    test('a job under which one worker after the other dies is given up, with advice', async () => {
      const jobId = await enqueue('steps 1')
      const settings = { lockDuration: 20, stalledInterval: 10, maxStalledCount: 3, skipLockRenewal: true }
      const mortal = broker.worker(settings)
      // It takes the job, and that is the last that is heard of it, until the queue has had enough.
      for (let taken = 0; ; ) {
        const job = await mortal.getNextJob(`death-${taken}`, { block: false })
        if (job?.deferredFailure !== undefined) break
        if (job !== undefined) assert.ok(++taken <= 4, 'the queue does not give the job up')
        while ((await broker.queue.getJobState(jobId)) === 'active') await mortal.backend.moveStalledJobsToWait()
      }
      while ((await broker.queue.getJobState(jobId)) === 'active') await mortal.backend.moveStalledJobsToWait()
      await mortal.close()
      await withWorker(async (ends) => {
        const last = (await follow(queue, jobId)).at(-1)
        const { status, error } = await get(jobId)
        assert.deepEqual([last?.type, status, (await endOf(jobId, ends))[2]], ['failed', 'failed', 'failed'])
        assert.match(error?.detail ?? '', /the worker died under this job/)
      })
    })

    test('numbers of jobs by state are given for Prometheus', async () => {
      const text = await queue.prometheus()
      const failed = /^bullmq_job_count\{[^}]*state="failed"[^}]*\} (\d+)$/m.exec(text)?.[1]
      assert.ok(Number(failed) > 0, text)
    })
  })
}

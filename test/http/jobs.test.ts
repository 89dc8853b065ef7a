// Jobs listed, looked at and cancelled.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeJob, makeService } from './fakes.ts'

const job = makeJob({
  status: 'running',
  attempts: 1,
  startedAt: '2026-11-24T08:00:01.000Z',
  progress: {
    step: 10,
    steps: 150,
    loss: 2.31,
    validationLoss: null,
    tokensPerSecond: 1000.5,
    examplesPerSecond: 20,
    etaMs: 7000,
  },
})
const ended = makeJob({
  id: 'job_000000000000000000000002',
  status: 'succeeded',
  finishedAt: '2026-11-24T09:00:00.000Z',
})

test('a job is shown whole', async () => {
  const { app, queue } = makeService()
  queue.jobs.set(job.id, job)
  const response = await app.inject(`/jobs/${job.id}`)
  assert.equal(response.statusCode, 200)
  assert.deepEqual(response.json(), job)
})

test('jobs are listed a page at a time and by status', async () => {
  const { app, queue } = makeService()
  for (const one of [job, ended]) queue.jobs.set(one.id, one)
  assert.deepEqual((await app.inject('/jobs?limit=1')).json(), { data: [job], next: job.id })
  assert.deepEqual((await app.inject('/jobs?status=succeeded')).json(), { data: [ended], next: null })
  const bad = await app.inject('/jobs?status=done')
  assert.equal(bad.statusCode, 400)
  assert.equal(bad.json().errors[0].pointer, '?status')
})

test('a job that is not there is a 404 problem, for every route', async () => {
  const { app } = makeService()
  for (const id of ['job_000000000000000000000009', 'x', 'job_:7', '%00']) {
    for (const [method, url] of [
      ['GET', `/jobs/${id}`],
      ['DELETE', `/jobs/${id}`],
      ['GET', `/jobs/${id}/events`],
    ] as const) {
      const response = await app.inject({ method, url })
      assert.equal(response.statusCode, 404, `${method} ${url}`)
      assert.equal(response.json().code, 'job_not_found')
    }
  }
})

test('cancelling a job answers 202 with the job; one that has ended cannot be cancelled', async () => {
  const { app, queue } = makeService()
  for (const one of [job, ended]) queue.jobs.set(one.id, one)
  const response = await app.inject({ method: 'DELETE', url: `/jobs/${job.id}` })
  assert.equal(response.statusCode, 202)
  assert.equal(response.json().status, 'cancelled')
  assert.deepEqual(queue.cancelled, [job.id])
  const late = await app.inject({ method: 'DELETE', url: `/jobs/${ended.id}` })
  assert.equal(late.statusCode, 409)
  assert.equal(late.json().code, 'job_finished')
})

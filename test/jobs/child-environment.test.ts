// The environment of processes that train: what the service has settled, and libuv's threads, which a user may have said.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { childEnvironment } from '../../src/jobs/child-environment.ts'

const settled = { model: '/m', storeUrl: '/s', threads: 12 }

test('threads of a run and some beside them, unless the user has said how many', () => {
  const poolOf = (env: Record<string, string>, threads = 12) =>
    childEnvironment(env, { ...settled, threads })['UV_THREADPOOL_SIZE']
  assert.deepEqual([poolOf({}), poolOf({}, 1), poolOf({}, 1024)], ['16', '5', '1024'])
  assert.equal(poolOf({ UV_THREADPOOL_SIZE: '' }), '16')
  assert.equal(poolOf({ UV_THREADPOOL_SIZE: '3' }), '3')
})

test('the rest is the environment of the service, but for what it has settled', () => {
  const { UV_THREADPOOL_SIZE: _, ...rest } = childEnvironment({ HOME: '/h', MODEL: 'm', THREADS: '' }, settled)
  assert.deepEqual(rest, { HOME: '/h', MODEL: '/m', STORE_URL: '/s', THREADS: '12' })
})

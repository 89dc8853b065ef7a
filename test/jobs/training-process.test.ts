// The child process that trains, as a process: it must not outlive its parent.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { goneWithin } from './fixtures.ts'

test('the training process ends when its parent is killed', { timeout: 30_000 }, async () => {
  const parent = fork(new URL('./training-parent.js', import.meta.url))
  const [pid] = (await once(parent, 'message')) as [number]
  assert.equal(await goneWithin(pid, 300), false, 'the training process did not even start')
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  assert.ok(await goneWithin(pid, 5_000), 'the training process outlived its parent')
})

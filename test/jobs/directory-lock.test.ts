// The lock of a directory: held by one at a time, and by nobody that is dead.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import fs, { mkdtemp, readdir, rm } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { lockDirectory } from '../../src/jobs/directory-lock.ts'

async function folder(t: TestContext): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'preamble-lock-'))
  t.after(() => rm(made, { recursive: true, force: true }))
  return path.join(made, 'queue')
}

/** As it was before a test holds it up. */
const { rm: rmUnstalled } = fs

const lockModule = new URL('../../src/jobs/directory-lock.js', import.meta.url).href

/** Leaves the lock of a process behind that was killed while it held it. */
async function dieWithLock(directory: string): Promise<void> {
  const hold = `import(process.argv[1]).then(({ lockDirectory }) => lockDirectory(process.argv[2]))
    .then(() => { console.log('locked'); setInterval(() => {}, 1_000) })`
  const holder = spawn(process.execPath, ['-e', hold, lockModule, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(holder.stdout, 'data')
  await assert.rejects(lockDirectory(directory), { name: 'DirectoryInUseError' })
  holder.kill('SIGKILL')
  await once(holder, 'exit')
}

test('a directory is locked until the lock is given back', async (t) => {
  const directory = await folder(t)
  const unlock = await lockDirectory(directory)
  await assert.rejects(lockDirectory(directory), (error: Error) => error.message.includes(directory))
  await unlock()
  await (await lockDirectory(directory))()
})

test('a path too long for a socket is locked as well', async (t) => {
  const directory = path.join(await folder(t), 'x'.repeat(120), 'queue')
  const unlock = await lockDirectory(directory)
  await assert.rejects(lockDirectory(directory), { name: 'DirectoryInUseError' })
  await unlock()
})

test('the lock of a killed process is taken over', async (t) => {
  const directory = await folder(t)
  await dieWithLock(directory)
  const unlock = await lockDirectory(directory)
  await assert.rejects(lockDirectory(directory), { name: 'DirectoryInUseError' })
  await unlock()
})

test('of many that take over at once, one does', async (t) => {
  const directory = await folder(t)
  await dieWithLock(directory)
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(directory)))
  const locks = outcomes.filter((outcome) => outcome.status === 'fulfilled')
  assert.equal(locks.length, 1, JSON.stringify(outcomes))
  await locks[0]?.value()
})

test('who stalls between seeing the lock dead and clearing it away takes nothing from the one who came since', async (t) => {
  const directory = await folder(t)
  await dieWithLock(directory)
  // The first that clears away is held up there until the second has the lock.
  const steps = new EventEmitter()
  let isFirst = true
  const { mock } = t.mock.method(fs, 'rm', async (...asked: Parameters<typeof rm>) => {
    if (isFirst) {
      isFirst = false
      const resumed = once(steps, 'resume')
      steps.emit('stalled')
      await resumed
    }
    return rmUnstalled(...asked)
  })
  syncBuiltinESMExports()
  t.after(() => {
    mock.restore()
    syncBuiltinESMExports()
  })
  const isStalled = once(steps, 'stalled')
  const loser = lockDirectory(directory)
  await isStalled
  const unlock = await lockDirectory(directory)
  steps.emit('resume')
  await assert.rejects(loser, { name: 'DirectoryInUseError' })
  // And the lock is still held, for whoever comes later.
  await assert.rejects(lockDirectory(directory), { name: 'DirectoryInUseError' })
  await unlock()
  await (await lockDirectory(directory))()
})

test('nothing is left of locks that were given back', async (t) => {
  const directory = await folder(t)
  await dieWithLock(directory)
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(directory)))
  for (const outcome of outcomes) if (outcome.status === 'fulfilled') await outcome.value()
  assert.deepEqual(await readdir(path.dirname(directory)), [])
})

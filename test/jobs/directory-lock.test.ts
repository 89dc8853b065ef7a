// The lock of a directory: held by one at a time, and by nobody that is dead.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { lockDirectory } from '../../src/jobs/directory-lock.ts'

async function folder(t: TestContext): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'preamble-lock-'))
  t.after(() => rm(made, { recursive: true, force: true }))
  return path.join(made, 'queue')
}

/** Leaves the socket of a process behind that was killed while it held the lock. */
async function dieWithLock(directory: string): Promise<void> {
  const listen = `require('node:net').createServer().listen(process.argv[1], () => console.log('listening'))`
  const holder = spawn(process.execPath, ['-e', listen, `${directory}.lock`], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(holder.stdout, 'data')
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  await access(`${directory}.lock`)
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

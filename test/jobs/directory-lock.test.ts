// The lock of a directory: held by one at a time, and by nobody that is dead.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import fs, { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises'
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

/** Holds the first call of a function of the file system up until `resume`. */
function holdUp(
  t: TestContext,
  name: 'rm' | 'rename',
): { readonly stalled: Promise<unknown>; readonly resume: () => void } {
  const steps = new EventEmitter()
  const stalled = once(steps, 'stalled')
  const unstalled = fs[name] as (...asked: unknown[]) => Promise<void>
  let isFirst = true
  const { mock } = t.mock.method(fs, name, async (...asked: unknown[]) => {
    if (isFirst) {
      isFirst = false
      const resumed = once(steps, 'resume')
      steps.emit('stalled')
      await resumed
    }
    return unstalled(...asked)
  })
  syncBuiltinESMExports()
  t.after(() => {
    mock.restore()
    syncBuiltinESMExports()
  })
  return { stalled, resume: () => steps.emit('resume') }
}

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

/** Leaves behind what a process has made that was killed as it came to a function of a module. */
async function dieBefore(module: string, name: string, directory: string): Promise<void> {
  const die = `require(process.argv[3])[process.argv[4]] = () => process.kill(process.pid, 'SIGKILL')
    require('node:module').syncBuiltinESMExports()
    import(process.argv[1]).then(({ lockDirectory }) => lockDirectory(process.argv[2]))`
  const dying = spawn(process.execPath, ['-e', die, lockModule, directory, module, name], { stdio: 'inherit' })
  const [, signal] = await once(dying, 'exit')
  assert.equal(signal, 'SIGKILL')
}

const anHourAgo = new Date(Date.now() - 3_600_000)

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
  const { stalled, resume } = holdUp(t, 'rm')
  const loser = lockDirectory(directory)
  await stalled
  const unlock = await lockDirectory(directory)
  resume()
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

test('folders of those that were killed on their way to the lock are removed once they are old, and nothing else', async (t) => {
  const directory = await folder(t)
  const parent = path.dirname(directory)
  await dieBefore('node:net', 'createServer', directory)
  await dieBefore('node:fs/promises', 'rename', directory)
  const left = await readdir(parent)
  assert.equal(left.length, 2)
  for (const name of left) await utimes(path.join(parent, name), anHourAgo, anHourAgo)
  // One that comes just now, and folders that are no lock's.
  const kept = ['queue.held-0123456789ab', 'queue.held-notes', 'queue.held-0123456789abc', 'other.held-0123456789ab']
  for (const [i, name] of kept.entries()) {
    await mkdir(path.join(parent, name))
    if (i > 0) await utimes(path.join(parent, name), anHourAgo, anHourAgo)
  }
  const unlock = await lockDirectory(directory)
  assert.deepEqual((await readdir(parent)).sort(), [...kept, 'queue.held'].sort())
  await unlock()
})

test('who was stopped so long that its folder was removed as a leftover does not get the lock that another has', async (t) => {
  const directory = await folder(t)
  const parent = path.dirname(directory)
  const { stalled, resume } = holdUp(t, 'rename')
  const loser = lockDirectory(directory)
  await stalled
  for (const name of await readdir(parent)) await utimes(path.join(parent, name), anHourAgo, anHourAgo)
  const unlock = await lockDirectory(directory)
  assert.deepEqual(await readdir(parent), ['queue.held'])
  resume()
  await assert.rejects(loser, { name: 'DirectoryInUseError' })
  await assert.rejects(lockDirectory(directory), { name: 'DirectoryInUseError' })
  await unlock()
  assert.deepEqual(await readdir(parent), [])
})

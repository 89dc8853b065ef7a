// The engine's own process beside its parent: it ends with it however that ends, minds no signals, and leaves the output alone.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type EngineWorker, inProcess } from '../../src/engine/worker-place.ts'
import { isAlive, livingChildren } from '../main/process.ts'

const skip = process.platform !== 'linux' && 'needs /proc'
const program = fileURLToPath(new URL('client-process.js', import.meta.url))

interface Parent {
  readonly process: ChildProcess
  readonly engine: number
  readonly printed: { out: string; error: string }
}

async function startParent(): Promise<Parent> {
  const parent = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'pipe'] })
  const printed = { out: '', error: '' }
  parent.stderr.on('data', (bytes: Buffer) => (printed.error += bytes.toString()))
  parent.stdout.on('data', (bytes: Buffer) => (printed.out += bytes.toString()))
  while (!printed.out.includes('ready')) await once(parent.stdout, 'data')
  const children = await livingChildren(parent.pid as number)
  assert.equal(children.length, 1)
  return { process: parent, engine: children[0] as number, printed }
}

async function hasEnded(pid: number): Promise<boolean> {
  for (let waits = 0; waits < 200 && (await isAlive(pid)); waits++) await setTimeout(50)
  return !(await isAlive(pid))
}

test('it ends when its parent is killed', { skip }, async () => {
  const parent = await startParent()
  parent.process.kill('SIGKILL')
  assert.ok(await hasEnded(parent.engine))
})

test('it answers behind a signal that it had as well, and ends when it is told to; what it prints is not on the output', {
  skip,
}, async () => {
  const parent = await startParent()
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) process.kill(parent.engine, signal)
  await setTimeout(100)
  parent.process.kill('SIGTERM')
  assert.deepEqual(await once(parent.process, 'close'), [0, null])
  assert.equal(parent.printed.out, 'ready\n# figures of the worker\n')
  assert.equal(parent.printed.error, 'what a library prints\n')
  assert.ok(await hasEnded(parent.engine))
})

test('a process that a signal ends has ended once, by that signal, and hears nothing more', async () => {
  const exits: string[] = []
  const entry = new URL('client-worker.js', import.meta.url)
  const worker = await new Promise<EngineWorker>((resolve) => {
    const started = inProcess(
      entry,
      'works',
    )({
      onMessage: ({ type }) => {
        if (type === 'ready') started.terminate()
      },
      onExit: ({ message }, isCrash) => {
        exits.push(`${message}, ${isCrash}`)
        resolve(started)
      },
    })
  })
  worker.post({ type: 'close' })
  worker.terminate()
  await setTimeout(50)
  assert.deepEqual(exits, ["the engine's process ended by SIGKILL, false"])
})

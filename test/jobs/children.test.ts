// The child processes of a worker: who shares one with whom.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import { Children, type ChildRun } from '../../src/jobs/children.ts'
import type { TrainingProgress } from '../../src/train/options.ts'
import { jobData, processorFile } from './fixtures.ts'

interface Followed {
  readonly result: Promise<unknown>
  /** Process id of the child, once the job has said something. */
  readonly pid: Promise<number>
  stop(reason: string): void
}

function open(t: TestContext, processesMax: number, jobsPerProcess: number): Children {
  const children = new Children({ processorFile, processesMax, jobsPerProcess, env: process.env })
  t.after(() => children.close())
  return children
}

let jobs = 0

function start(children: Children, template: string, options: Partial<ChildRun> = {}): Followed {
  const aborting = new AbortController()
  const job = { id: `job_${++jobs}`, data: jobData(template), attemptsStarted: 1 }
  let heard: (pid: number) => void = () => undefined
  const pid = new Promise<number>((resolve) => (heard = resolve))
  // The test processor says its process id where the speed would stand.
  const onProgress: ChildRun['onProgress'] = (progress) => heard((progress as TrainingProgress).tokensPerSecond)
  const result = children.run({ job, signal: aborting.signal, alone: false, onProgress, ...options })
  result.catch(() => undefined)
  return { result, pid, stop: (reason) => aborting.abort(reason) }
}

test('jobs share a process up to its limit, and a process is kept for the next job', async (t) => {
  const children = open(t, 1, 2)
  const [first, second] = [start(children, 'hold'), start(children, 'hold')]
  const third = start(children, 'steps 1')
  assert.equal(await first.pid, await second.pid)
  first.stop('cancelled')
  await assert.rejects(first.result, { name: 'ServiceError', code: 'cancelled' })
  assert.equal(await third.pid, await second.pid)
  assert.deepEqual(await third.result, { pid: await second.pid })
  second.stop('shutdown')
  await assert.rejects(second.result, { name: 'HandedBack' })
})

test('jobs are spread over as many processes as there may be', async (t) => {
  const children = open(t, 2, 2)
  const held = [start(children, 'hold'), start(children, 'hold')]
  assert.notEqual(await held[0]?.pid, await held[1]?.pid)
})

test('a process that dies fails its jobs alone, and the next one has another', async (t) => {
  const children = open(t, 1, 2)
  const held = start(children, 'hold')
  const before = await held.pid
  const dying = start(children, 'die 1')
  for (const { result } of [held, dying])
    await assert.rejects(result, /^Error: Unexpected exit code: null signal: SIGKILL/)
  assert.notEqual(await start(children, 'steps 1').pid, before)
})

test('a job that must be alone waits for an empty process, is not overtaken, and takes no company', async (t) => {
  const children = open(t, 1, 2)
  const held = start(children, 'hold')
  await held.pid
  const alone = start(children, 'hold', { alone: true })
  const later = start(children, 'steps 1')
  let overtaken = false
  void later.pid.then(() => (overtaken = true))
  // Long enough for a child that was wrongly given the job to report a step.
  await sleep(100)
  assert.equal(overtaken, false)
  held.stop('cancelled')
  await alone.pid
  await sleep(100)
  assert.equal(overtaken, false)
  alone.stop('cancelled')
  await later.result
})

test('a job that is stopped before it has a place ends without one, and lets those behind it go on', async (t) => {
  const children = open(t, 1, 2)
  const held = start(children, 'hold')
  await held.pid
  const alone = start(children, 'steps 1', { alone: true })
  const later = start(children, 'steps 1')
  alone.stop('cancelled')
  await assert.rejects(alone.result, { code: 'cancelled' })
  await later.result
})

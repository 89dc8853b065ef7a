// What the job tests share: jobs to put in line, and ways to follow them.
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { greedy } from '../../src/engine/request.ts'
import type { EvaluateJobData, JobEvent, JobQueue, TrainJobData } from '../../src/jobs/job.ts'
import type { Broker } from '../../src/jobs/broker.ts'
import { startWorker, type JobEnd, type JobLog, type JobWorker } from '../../src/jobs/worker.ts'
import { trainingDefaults } from '../../src/train/options.ts'

/** Short, so that the jobs of a killed worker are found soon. */
export const lockMs = 1_500
export const processorFile = new URL('./test-processor.js', import.meta.url)
export const quiet: JobLog = { info: () => undefined, warn: () => undefined, error: () => undefined }
/** For what ought to happen at once, on a machine that is busy. */
export const patienceMs = 20_000

export function jobData(template: string): TrainJobData {
  return {
    prefixId: `pfx_${template.replace(/\W/g, '')}`,
    datasetId: 'ds_1',
    validation: 0.1,
    template,
    options: {
      ...trainingDefaults,
      prefixLength: 2,
      epochs: 1,
      batchSize: 1,
      reparametrization: 0,
      initialization: 'random',
    },
  }
}

/** `command` is what the test processor is to do. */
export function evaluationData(command: string): EvaluateJobData {
  const asked = { maxNewTokens: 8, decoding: greedy, seed: 1, baselines: true }
  return { type: 'evaluate', prefixId: `pfx_${command.replace(/\W/g, '')}`, datasetId: command, ...asked }
}

/** The job's events after `after`, until it ends; throws when it does not. */
export async function follow(queue: JobQueue, jobId: string, after = 0): Promise<JobEvent[]> {
  const events: JobEvent[] = []
  const signal = AbortSignal.timeout(patienceMs)
  for await (const event of queue.events(jobId, after, signal)) events.push(event)
  if (signal.aborted) throw new Error(`job ${jobId} did not end, its events: ${JSON.stringify(events)}`)
  return events
}

/** The first event of a job that `matches`. */
export async function eventWhere(
  queue: JobQueue,
  jobId: string,
  matches: (event: JobEvent) => boolean,
): Promise<JobEvent> {
  for await (const event of queue.events(jobId, 0, AbortSignal.timeout(patienceMs))) if (matches(event)) return event
  throw new Error(`job ${jobId} came to no such event`)
}

/** Waits until no process has the id; one that ended and was not yet reaped counts as gone. */
export async function goneWithin(pid: number, limitMs: number): Promise<boolean> {
  const endMs = performance.now() + limitMs
  while (performance.now() < endMs) {
    if (!(await isRunning(pid))) return true
    // Nobody tells a process of the end of another one's child.
    await sleep(20)
  }
  return false
}

async function isRunning(pid: number): Promise<boolean> {
  try {
    const state = /^\d+ \(.*\) (\S)/.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))?.[1]
    return state !== 'Z' && state !== 'X'
  } catch {
    return process.platform !== 'linux' && signalReaches(pid)
  }
}

function signalReaches(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** What a worker told of the end of a job; it does so only once the queue has it as ended. */
export async function endOf(jobId: string, ends: readonly Parameters<JobEnd>[]): Promise<Parameters<JobEnd>> {
  for (;;) {
    const end = ends.find(([id]) => id === jobId)
    if (end !== undefined) return end
    await sleep(10)
  }
}

export type UseWorker<T> = (ends: Parameters<JobEnd>[], worker: JobWorker) => Promise<T>

/** A worker of two processes for the time of `use`; the ends it told of are given to `use`. */
export async function workFor<T>(broker: Broker, use: UseWorker<T>): Promise<T> {
  const ends: Parameters<JobEnd>[] = []
  const onEnd: JobEnd = async (...end) => void ends.push(end)
  const { env } = process
  const options = { processorFile, processesMax: 2, jobsPerProcess: 1, lockMs, env, log: quiet }
  const worker = startWorker({ broker, ...options, onEnd })
  try {
    return await use(ends, worker)
  } finally {
    await worker.stop()
  }
}

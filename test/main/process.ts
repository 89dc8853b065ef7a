// The whole service as its users run it: a process of its own, with its own folder and port, spoken to over HTTP.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { prepareQueue } from '../jobs/prepared-queue.ts'

export interface ServiceProcess {
  readonly address: string
  readonly child: ChildProcess
  request(method: string, path: string, body?: unknown): Promise<{ readonly status: number; readonly body: never }>
  stop(signal?: NodeJS.Signals): Promise<void>
}

/**
 * Waits until it says that it is ready; what it printed is in the error when it is not. Its queue in `DATA` is a copy of
 * one that was made before, unless `isFirst`: then the service makes its own, as at its first start anywhere.
 */
export async function startProcess(
  env: Readonly<Record<string, string> & { readonly DATA: string }>,
  { isFirst = false } = {},
): Promise<ServiceProcess> {
  if (!isFirst && env['QUEUE_URL'] === undefined) await prepareQueue(path.join(env.DATA, 'queue'))
  const own = { PORT: '0', THREADS: '2', JOB_LOCK_MS: '1500', LOG_LEVEL: 'info', ...env }
  const child = spawn(process.execPath, ['dist/src/cli/cli.js'], {
    env: { PATH: process.env['PATH'], ...own },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const printed: string[] = []
  child.stderr.on('data', (bytes: Buffer) => printed.push(bytes.toString()))
  const address = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      printed.push(line)
      const { msg, address: at } = parse(line)
      if (msg === 'ready') resolve(at ?? '')
    })
    child.once('exit', (code) => reject(new Error(`the service ended with ${code}:\n${printed.join('\n')}`)))
  })
  return {
    address,
    child,
    request: async (method, path, body) => {
      const json =
        body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
      const response = await fetch(address + path, { method, ...json })
      const text = await response.text()
      return { status: response.status, body: (text === '' ? null : JSON.parse(text)) as never }
    },
    stop: async (signal = 'SIGTERM') => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
      child.kill(signal)
      await ended
    },
  }
}

function parse(line: string): { msg?: string; address?: string } {
  try {
    return JSON.parse(line) as { msg?: string; address?: string }
  } catch {
    return {}
  }
}

interface JobBody {
  readonly status: string
  readonly attempts: number
  readonly error: unknown
  readonly progress: { readonly step: number } | null
}

/** Asks for the job until `done` holds; fails after `limitMs`. */
export async function waitForJob(
  service: ServiceProcess,
  jobId: string,
  done: (job: JobBody) => boolean,
  limitMs = 300_000,
): Promise<JobBody> {
  const endMs = performance.now() + limitMs
  for (;;) {
    const { body } = (await service.request('GET', `/jobs/${jobId}`)) as { body: JobBody }
    if (done(body)) return body
    assert.ok(performance.now() < endMs, `job ${jobId} is ${JSON.stringify(body)} after ${limitMs} ms`)
    await setTimeout(50)
  }
}

/** Process ids of the children of `pid` that are not zombies. */
export async function livingChildren(pid: number): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'))
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .map(Number)
  const living = await Promise.all(children.map(isAlive))
  return children.filter((_, i) => living[i])
}

export async function isAlive(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z'
  } catch {
    return false
  }
}

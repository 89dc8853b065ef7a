// The whole service as a process of its own with the probe in it, for the load bench.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Holdings } from './probe.ts'

export interface LoadedService {
  readonly address: string
  /** Lines of its log at level error or above. */
  readonly complaints: readonly string[]
  /** Collects garbage, then looks. */
  holdings(): Promise<Holdings>
  stop(): Promise<void>
}

/** Kept of the log. */
const complaintsMax = 100
const errorLevel = 50

export async function startLoadedService(env: Readonly<Record<string, string>>): Promise<LoadedService> {
  const probe = new URL('./probe.js', import.meta.url).href
  const child = spawn(process.execPath, ['--import', probe, 'dist/src/cli/cli.js'], {
    env: { PATH: process.env['PATH'], ...env, PORT: '0', LOG_LEVEL: 'info' },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const complaints: string[] = []
  const address = await readLog(child, complaints)
  return {
    address,
    complaints,
    holdings: async () => {
      child.send('preamble-load-probe')
      const [message] = (await once(child, 'message')) as [Holdings]
      return message
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** Answers the address once it is ready, and goes on reading. */
function readLog(child: ChildProcess, complaints: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the service ended with ${code}:\n${complaints.join('\n')}`)))
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const { level, msg, address } = JSON.parse(line) as { level: number; msg: string; address?: string }
      if (msg === 'ready') resolve(address ?? '')
      if (level >= errorLevel && complaints.length < complaintsMax) complaints.push(line)
    })
  })
}

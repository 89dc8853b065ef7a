// How the service answers while it trains: health checks and a generation beside a training that uses every core.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { readConfig } from '../src/config/config.ts'
import { createLogger, startService } from '../src/main/main.ts'
import { quantile } from './machine.ts'
import { readExamples } from './records.ts'

const probes = 400
/** Between two health checks. */
const probeEveryMs = 10
const generations = 10

export interface ServiceReport {
  readonly healthMsP50: number
  readonly healthMsP99: number
  readonly healthMsMax: number
  readonly generateMsP50: number
  readonly generateMsMax: number
  /** Steps that the training made meanwhile. */
  readonly steps: number
}

/** The whole service on its embedded defaults, in this process, with a training in its child. */
export async function measureService(model: string, threads: number): Promise<ServiceReport> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bench-service-'))
  const config = readConfig({ DATA: folder, PORT: '0', MODEL: model, THREADS: String(threads), LOG_LEVEL: 'error' })
  const service = await startService(config, createLogger(config.logLevel))
  const address = service.address as string
  try {
    const examples = await readExamples()
    // Everything given: nothing is to be chosen first.
    const training = {
      steps: 100_000,
      prefixLength: 10,
      learningRate: 2e-3,
      reparametrization: 512,
      initialization: 'random',
    }
    const { jobId } = await post<{ jobId: string }>(`${address}/prefixes`, { examples, training })
    const before = await untilStep(address, jobId, 5)
    const generating = timeGenerations(address)
    const healthMs: number[] = []
    for (let i = 0; i < probes; i++) {
      const startMs = performance.now()
      await (await fetch(`${address}/healthz`)).arrayBuffer()
      healthMs.push(performance.now() - startMs)
      await setTimeout(probeEveryMs)
    }
    const generateMs = await generating
    const after = await untilStep(address, jobId, before)
    const at = (values: number[], share: number): number =>
      quantile(
        values.toSorted((a, b) => a - b),
        share,
      )
    return {
      healthMsP50: at(healthMs, 0.5),
      healthMsP99: at(healthMs, 0.99),
      healthMsMax: at(healthMs, 1),
      generateMsP50: at(generateMs, 0.5),
      generateMsMax: at(generateMs, 1),
      steps: after - before,
    }
  } finally {
    await service.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function timeGenerations(address: string): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < generations; i++) {
    const startMs = performance.now()
    await post(`${address}/generate`, {
      prefix: null,
      input: 'name : Blue Spice | type : coffee shop',
      maxNewTokens: 32,
    })
    times.push(performance.now() - startMs)
  }
  return times
}

async function untilStep(address: string, jobId: string, step: number): Promise<number> {
  for (;;) {
    const { progress, error } = (await (await fetch(`${address}/jobs/${jobId}`)).json()) as {
      progress: { step: number } | null
      error: unknown
    }
    if (error !== null) throw new Error(`the training ended: ${JSON.stringify(error)}`)
    if (progress !== null && progress.step >= step) return progress.step
    await setTimeout(50)
  }
}

async function post<T>(url: string, body: object): Promise<T> {
  const response = await fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  })
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as T
}

// A REST interface over parts that are made of memory, for tests to ask and to look behind.
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import type { GenerateEvent, GenerateRequest } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { createHttp, defaultHttpLimits, type HttpParts } from '../../src/http/http.ts'
import { typeOf, type Job, type JobData, type JobEvent, type JobQueue } from '../../src/jobs/job.ts'
import { Datasets } from '../../src/prefix/datasets.ts'
import { Evaluations } from '../../src/prefix/evaluations.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { TrainingFiles } from '../../src/prefix/training-files.ts'
import { MemoryStore } from '../../src/store/memory.ts'

export const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version

export const model = {
  name: 'tiny',
  sha256: 'a'.repeat(64),
  tokenizerSha256: 'b'.repeat(64),
  layers: 2,
  heads: 2,
  headDim: 4,
  positionsMax: 64,
}

export const usage = { prefixTokens: 10, inputTokens: 12, outputTokens: 2 }
export const outputs = [{ text: 'Blue Spice.', finishReason: 'stop' as const, tokens: 2 }]

/** Of the two words, where a request asks for them. */
const topLogprobs = [
  {
    id: 1,
    text: 'Blue',
    logprob: -0.25,
    top: [
      { id: 1, text: 'Blue', logprob: -0.25 },
      { id: 3, text: 'The', logprob: -1.5 },
    ],
  },
  { id: 2, text: ' Spice.', logprob: -2, top: [{ id: 4, text: '.', logprob: -0.5 }] },
]

export const runtime = { name: 'onnx', device: 'cpu, 2 threads', precision: 'float32' }

/** Makes the same two words of every request, and remembers what it was asked. */
export class FakeEngine {
  readonly requests: GenerateRequest[] = []
  /** Set to make it fail, before any event or after the first. */
  fails: Error | null = null
  failsLater: Error | null = null
  readyError: Error | null = null

  async *generate(request: GenerateRequest, _signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    this.requests.push(request)
    if (this.fails !== null) throw this.fails
    yield { type: 'token', index: 0, text: 'Blue' }
    if (this.failsLater !== null) throw this.failsLater
    yield { type: 'token', index: 0, text: ' Spice.' }
    const scored = outputs.map((output) => ({ ...output, topLogprobs }))
    yield { type: 'done', outputs: typeof request.topLogprobs === 'number' ? scored : outputs, usage }
  }

  ready(): Promise<{ runtime: typeof runtime }> {
    return this.readyError === null ? Promise.resolve({ runtime }) : Promise.reject(this.readyError)
  }
}

export class FakeQueue implements Omit<JobQueue, 'close'> {
  readonly jobs = new Map<string, Job>()
  readonly data = new Map<string, JobData>()
  readonly cancelled: string[] = []
  history: JobEvent[] = []
  /** Set to make every call fail. */
  fails: Error | null = null

  enqueue(jobId: string, data: JobData): Promise<void> {
    if (this.fails !== null) return Promise.reject(this.fails)
    this.data.set(jobId, data)
    this.jobs.set(jobId, makeJob({ id: jobId, type: typeOf(data), prefixId: data.prefixId }))
    return Promise.resolve()
  }

  get(jobId: string): Promise<Job | null> {
    return this.fails === null ? Promise.resolve(this.jobs.get(jobId) ?? null) : Promise.reject(this.fails)
  }

  list({ limit, status, cursor = '' }: Parameters<JobQueue['list']>[0]): ReturnType<JobQueue['list']> {
    const data = [...this.jobs.values()]
      .filter((job) => job.id > cursor && (status === undefined || job.status === status))
      .sort((a, b) => (a.id < b.id ? -1 : 1))
    const page = data.slice(0, limit)
    return Promise.resolve({ data: page, next: data.length > limit ? (page.at(-1)?.id ?? null) : null })
  }

  eventsSoFar(jobId: string): Promise<readonly JobEvent[]> {
    return this.jobs.has(jobId) ? Promise.resolve(this.history) : Promise.reject(new Error('no such job'))
  }

  cancel(jobId: string): Promise<void> {
    const job = this.jobs.get(jobId)
    if (this.fails !== null) return Promise.reject(this.fails)
    if (job === undefined) return Promise.reject(new ServiceError('job_not_found', `there is no job ${jobId}`))
    if (job.finishedAt !== null) {
      return Promise.reject(new ServiceError('job_finished', `job ${jobId} has ended already: ${job.status}`))
    }
    this.cancelled.push(jobId)
    this.jobs.set(jobId, { ...job, status: 'cancelled' })
    return Promise.resolve()
  }

  /** The history, and after it nothing until the signal aborts, unless the job has ended. */
  async *events(jobId: string, after: number, signal: AbortSignal): AsyncGenerator<JobEvent> {
    for (const event of this.history) if (event.id > after) yield event
    if (this.jobs.get(jobId)?.finishedAt !== null || signal.aborted) return
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
  }

  ping(): Promise<void> {
    return this.fails === null ? Promise.resolve() : Promise.reject(this.fails)
  }
}

export function makeJob(changes: Partial<Job> = {}): Job {
  return {
    id: 'job_000000000000000000000001',
    type: 'train',
    status: 'queued',
    prefixId: 'pfx_000000000000000000000001',
    progress: null,
    attempts: 0,
    error: null,
    createdAt: '2026-11-24T08:00:00.000Z',
    startedAt: null,
    finishedAt: null,
    ...changes,
  }
}

export function makePrefix(): Prefix {
  const header = {
    attachment: 'decoder_self' as const,
    textPositionStart: 3,
    prefixLength: 3,
    layers: model.layers,
    heads: model.heads,
    headDim: model.headDim,
    modelSha256: model.sha256,
    tokenizerSha256: model.tokenizerSha256,
    template: ' {input} <|endoftext|>',
    training: { epochs: 5 },
  }
  const size = header.layers * header.heads * header.prefixLength * header.headDim
  const numbers = Float32Array.from({ length: size }, (_, i) => i / size)
  return { header, keys: numbers, values: numbers.map((number) => -number) }
}

export interface Service {
  readonly app: FastifyInstance
  readonly engine: FakeEngine
  readonly queue: FakeQueue
  readonly store: MemoryStore
  readonly registry: PrefixRegistry
  readonly datasets: Datasets
  readonly files: TrainingFiles
  readonly evaluations: Evaluations
  /** Lines of the log. */
  readonly log: string[]
}

export function makeService(changes: Partial<HttpParts> = {}): Service {
  const log: string[] = []
  const store = new MemoryStore()
  const datasets = new Datasets(store)
  const parts = {
    engine: new FakeEngine(),
    queue: new FakeQueue(),
    registry: new PrefixRegistry(store),
    datasets,
    files: new TrainingFiles(store, datasets),
    evaluations: new Evaluations(store),
  }
  const logger = pino({ level: 'info' }, { write: (line: string) => void log.push(line) })
  const limits = defaultHttpLimits
  const app = createHttp({ ...parts, store, model, limits, apiKeys: null, logger, version, ...changes })
  return { app, ...parts, store, log }
}

/** A prefix that is ready, under the name e2e. */
export async function addReadyPrefix({ registry }: Pick<Service, 'registry'>, name: string | null = 'e2e') {
  const prefix = makePrefix()
  const { id } = await registry.create({
    name,
    jobId: null,
    dataset: null,
    template: prefix.header.template,
    prefixLength: prefix.header.prefixLength,
    training: {},
    model: { name: model.name, sha256: model.sha256 },
    tokenizerSha256: model.tokenizerSha256,
  })
  return registry.publish(id, prefix)
}

export const examples = [
  { input: 'name : Blue Spice | food : Thai', output: 'Blue Spice serves Thai food.' },
  { input: 'name : The Vaults | type : pub', output: 'The Vaults is a pub.' },
]

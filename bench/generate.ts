// Times decode steps of several rows, each with a prefix of its own, and the plainest read of the same weights.
import assert from 'node:assert/strict'
import { Worker } from 'node:worker_threads'
import { RowPasses } from '../src/engine/row-passes.ts'
import type { Model } from '../src/model/model.ts'
import { Random } from '../src/random/random.ts'
import type { DecodeSession, Past, Runtime } from '../src/runtime/runtime.ts'
import { sizeOf } from '../src/tensor/tensor.ts'

export interface DecodingWorkload {
  readonly rows: number
  readonly promptLength: number
  readonly prefixLength: number
}

export interface DecodingBench {
  /** Starts every row anew: prefix into the cache, prompt through the model. Time in ms. */
  prefill(): Promise<number>
  /** One greedy token for every row. Time in ms, the choice of the token included. */
  step(): Promise<number>
  dispose(): Promise<void>
}

export async function openDecodingBench(
  runtime: Runtime,
  model: Model,
  workload: DecodingWorkload,
  form: string = 'float32',
): Promise<DecodingBench> {
  const { rows } = workload
  const { pasts, prompts } = decodingInputs(model, workload)
  const session = await runtime.openSession(
    model.forwardGraph(),
    model.weights,
    { ...model.config, rowsMax: rows },
    form,
  )
  let next: readonly number[][] = prompts
  const run = async (): Promise<number> => {
    const startMs = performance.now()
    next = await likeliest(session, next)
    return performance.now() - startMs
  }
  return {
    prefill: async () => {
      pasts.forEach((each, row) => session.seed(row, each))
      next = prompts
      return run()
    },
    step: run,
    dispose: () => session.dispose(),
  }
}

/** Drawn from a seed: what rows start from, and what they read. */
export function decodingInputs(
  { config }: Model,
  { rows, promptLength, prefixLength }: DecodingWorkload,
): { readonly pasts: readonly Past[]; readonly prompts: number[][] } {
  const { layers, heads, headDim, vocabulary } = config
  const random = new Random(2)
  const past = (): Float32Array =>
    Float32Array.from({ length: layers * heads * prefixLength * headDim }, () => 0.1 * random.normal())
  const pasts = Array.from({ length: rows }, () => ({ keys: past(), values: past(), length: prefixLength }))
  const prompts = Array.from({ length: rows }, () =>
    Array.from({ length: promptLength }, () => Math.floor(random.next() * vocabulary)),
  )
  return { pasts, prompts }
}

/** Appends tokens to rows from the first on, and answers the likeliest next of each: chosen where the session computes, if it can. */
async function likeliest(session: DecodeSession, tokens: readonly number[][]): Promise<number[][]> {
  if (session.choose === undefined) return largest(session, await session.extend(0, tokens))
  const greedy = { temperature: 0, topK: 0, topP: 1, uniform: 0 }
  const outcomes = await session.choose(
    [{ start: 0, tokens }],
    tokens.map(() => greedy),
  )
  return outcomes.map((outcome) => {
    assert.ok('token' in outcome, 'a session that chooses can tell the largest logit')
    return [outcome.token]
  })
}

/** The likeliest token of each row, found as the engine finds it. */
export function largest({ vocabulary }: DecodeSession, logits: Float32Array): number[][] {
  const known = passes.get(vocabulary) ?? new RowPasses(vocabulary)
  passes.set(vocabulary, known)
  return Array.from({ length: logits.length / vocabulary }, (_, row) => {
    known.logits.set(logits.subarray(row * vocabulary, (row + 1) * vocabulary))
    return [known.argmax()]
  })
}
const passes = new Map<number, RowPasses>()

/** Bytes of weights, in float32, that a decode step must read: all of them, but of the position table only single rows. */
export function weightBytes({ weights }: Model): number {
  const read = [...weights.tensors.values()].filter(({ name }) => name !== 'wpe.weight')
  return read.reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0)
}

export interface PlainRead {
  /** Reads every byte once; time in ms. */
  read(): Promise<number>
  dispose(): Promise<void>
}

const answer = (worker: Worker): Promise<void> => new Promise((resolve) => worker.once('message', () => resolve()))

/** Threads that search their share of so many bytes for one that is not there: memchr, bound by memory alone. */
export function openPlainRead(bytes: number, threads: number): PlainRead {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const share = Buffer.alloc(workerData, 0)
    share.fill(2)
    parentPort.on('message', () => parentPort.postMessage(share.indexOf(1)))
    parentPort.postMessage(-1)`
  const workers = Array.from(
    { length: threads },
    () => new Worker(source, { eval: true, workerData: Math.ceil(bytes / threads) }),
  )
  const ready = Promise.all(workers.map(answer))
  return {
    read: async () => {
      await ready
      const startMs = performance.now()
      const answers = workers.map(answer)
      // The rule is about windows; this is a thread.
      // oxlint-disable-next-line unicorn/require-post-message-target-origin
      for (const worker of workers) worker.postMessage(null)
      await Promise.all(answers)
      return performance.now() - startMs
    },
    dispose: async () => {
      await Promise.all(workers.map((worker) => worker.terminate()))
    },
  }
}

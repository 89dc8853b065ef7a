// The GPU alone: training and decoding steps on the device, beside PEFT on the same one, and the time of each kernel.
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Model } from '../src/model/model.ts'
import { Random } from '../src/random/random.ts'
import type { CudaRuntime } from '../src/runtime/cuda/cuda.ts'
import type { StepTime } from '../src/runtime/cuda/executable.ts'
import { wrongResults } from '../src/runtime/self-check.ts'
import { sizeOf } from '../src/tensor/tensor.ts'
import { adamWDefaults } from '../src/train/adamw.ts'
import { batchFeeds, lossWeight } from '../src/train/feeds.ts'
import { gradientOf, trainingGraph } from '../src/train/graphs.ts'
import { parameterShapes, prefixShape } from '../src/train/parameters.ts'
import { untrained } from '../src/train/trainables.ts'
import { openDecodingBench } from './generate.ts'
import { median, type Figures } from './machine.ts'
import { comparePeft } from './peft.ts'
import { measureTogether } from './together.ts'
import { canonicalTraining, madeUpBatch, openTrainingBench } from './train.ts'

export interface CudaBenchOptions {
  readonly folder: string
  readonly rounds: number
  readonly threads: number
  /** A Python with torch, transformers and peft that see the same device; null: no rival. */
  readonly python: string | null
  /** Looked through for NVIDIA's libraries first. */
  readonly libraries: readonly string[]
}

/** Trainings that share a step, and rows that decode side by side. */
const together = 8
const rowsMeasured = [1, 64]
const tokensPerRound = 64
/** Runs of which the median counts, for each kernel. */
const kernelRuns = 5

export async function measureCuda(model: Model, options: CudaBenchOptions): Promise<Record<string, unknown>> {
  const { openCudaRuntime } = await import('../src/runtime/cuda/cuda.ts')
  const folder = path.join(tmpdir(), 'preamble-bench', 'kernels')
  const runtime = openCudaRuntime({ folder, libraries: options.libraries })
  const wrong = await wrongResults(runtime)
  if (wrong !== null) throw new Error(`no figures of a device that computes wrong results: ${wrong}`)
  const training = []
  for (const precision of ['float32', 'bfloat16'])
    training.push(await measureTraining(runtime, model, precision, options))
  const decoding = []
  for (const rows of rowsMeasured) decoding.push(await measureDecoding(runtime, model, rows, options.rounds))
  return {
    device: runtime.description,
    training,
    together: await measureTogether(runtime, model, canonicalTraining, together, options.rounds, 'bfloat16'),
    decoding,
    kernels: await measureKernels(runtime, model, 'bfloat16'),
  }
}

async function measureTraining(
  runtime: CudaRuntime,
  model: Model,
  precision: string,
  { folder, rounds, threads, python }: CudaBenchOptions,
): Promise<Figures> {
  const bench = await openTrainingBench(runtime, model, canonicalTraining, precision)
  try {
    if (python !== null) {
      const peft = { folder, python, dtype: 'bfloat16', threads, rounds, device: 'cuda' }
      return { form: bench.form, ...(await comparePeft(bench, peft)) }
    }
    const times: number[] = []
    for (let i = -2; i < rounds; i++) {
      const ms = await bench.step()
      // The first ones capture and warm up.
      if (i >= 0) times.push(ms)
    }
    return { form: bench.form, stepMsMedian: median(times), stepMsMin: Math.min(...times) }
  } finally {
    await bench.dispose()
  }
}

async function measureDecoding(runtime: CudaRuntime, model: Model, rows: number, rounds: number): Promise<Figures> {
  const bench = await openDecodingBench(runtime, model, { rows, promptLength: 32, prefixLength: 10 })
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    await bench.prefill()
    await bench.step()
    for (let i = 0; i < tokensPerRound; i++) times.push(await bench.step())
  }
  await bench.dispose()
  return {
    rows,
    stepMsMedian: median(times),
    stepMsMin: Math.min(...times),
    tokensPerSecond: (1000 * rows) / median(times),
  }
}

/** Of one training step, the kernels that take the longest first: how often, how long, how near to the limits. */
async function measureKernels(runtime: CudaRuntime, model: Model, form: string): Promise<Figures[]> {
  const random = new Random(1)
  const shape = prefixShape(model.config, canonicalTraining.prefixLength, 0)
  const batch = madeUpBatch(model, canonicalTraining, random)
  const parameters = new Map(
    [...parameterShapes(shape)].map(([name, extents]) => [
      name,
      Float32Array.from({ length: sizeOf(extents) }, () => 0.1 * random.normal()),
    ]),
  )
  const trainables = runtime.training.hold(untrained(parameters), adamWDefaults)
  const places = new Map([...parameters.keys()].map((name) => [name, { input: name, gradient: gradientOf(name) }]))
  const update = { trainables, places, adds: false, step: { number: 1, learningRate: 1e-3 } }
  const program = await runtime.training.compile(trainingGraph(model, shape), model.weights, form)
  const feeds = batchFeeds(batch, shape, lossWeight(batch, 'mean'))
  const runs = Array.from({ length: kernelRuns }, () => program.time(feeds, [update]))
  await program.dispose()
  trainables.dispose()
  const first = runs[0] as StepTime[]
  const byName = new Map<string, { count: number; ms: number; bytes: number; operations: number }>()
  first.forEach(({ name, bytes, operations }, i) => {
    const sum = byName.get(name) ?? { count: 0, ms: 0, bytes: 0, operations: 0 }
    sum.count += 1
    sum.ms += median(runs.map((run) => run[i]!.ms))
    sum.bytes += bytes
    sum.operations += operations
    byName.set(name, sum)
  })
  const limit = runtime.bytesPerSecond
  return [...byName]
    .toSorted(([, a], [, b]) => b.ms - a.ms)
    .map(([kernel, { count, ms, bytes, operations }]) => ({
      kernel,
      count,
      ms,
      gigabytesPerSecond: bytes / ms / 1e6,
      shareOfMemoryLimit: limit > 0 ? (1000 * bytes) / ms / limit : 'unknown',
      teraflops: operations / ms / 1e9,
    }))
}

// The time of each kernel of a training step and of decode steps on the GPU, beside the limit of the memory.
import type { Model } from '../src/model/model.ts'
import { Random } from '../src/random/random.ts'
import type { CudaRuntime } from '../src/runtime/cuda/cuda.ts'
import type { StepTime } from '../src/runtime/cuda/executable.ts'
import { sizeOf } from '../src/tensor/tensor.ts'
import { adamWDefaults, untrained } from '../src/train/adamw.ts'
import { batchFeeds, lossWeight } from '../src/train/feeds.ts'
import { gradientOf, trainingGraph } from '../src/train/graphs.ts'
import { parameterShapes, prefixShape } from '../src/train/parameters.ts'
import type { DeviceWork } from './device-work.ts'
import { decodingInputs } from './generate.ts'
import { median, type Figures } from './machine.ts'
import { madeUpBatch, type TrainingWorkload } from './train.ts'

/** Of each kind of step, the kernels that take the longest first: how often, how long, how near to the limits. */
export async function measureKernels(
  runtime: CudaRuntime,
  model: Model,
  form: string,
  work: DeviceWork,
): Promise<Figures[]> {
  const summed = (step: string, runs: readonly (readonly StepTime[])[]): Figures[] =>
    byKernel(runs, runtime.bytesPerSecond).map((figures) => ({ step, ...figures }))
  const figures = summed('training', await timedRuns(runtime, model, form, work.training, work.kernelRuns))
  for (const rows of work.rows)
    figures.push(...summed(`decoding ${rows}`, await decodingRuns(runtime, model, form, rows, work)))
  return figures
}

/** The time of every kernel and product of one training step, in their order. */
export async function timesOf(
  runtime: CudaRuntime,
  model: Model,
  form: string,
  workload: TrainingWorkload,
): Promise<readonly StepTime[]> {
  const [run = []] = await timedRuns(runtime, model, form, workload, 1)
  return run
}

/**
 * Multiplications and additions of attention in a training step, without those done twice: two products forward and four backward, each of
 * a number of `heads·headDim` for every pair of a query and a key that it sees.
 */
export function attentionOperations(
  { layers, heads, headDim }: Model['config'],
  { batchSize, length, prefixLength }: TrainingWorkload,
): number {
  const queries = length - 1
  const pairs = queries * prefixLength + (queries * (queries + 1)) / 2
  return 6 * 2 * batchSize * layers * heads * headDim * pairs
}

async function timedRuns(
  runtime: CudaRuntime,
  model: Model,
  form: string,
  workload: TrainingWorkload,
  runs: number,
): Promise<StepTime[][]> {
  const random = new Random(1)
  const shape = prefixShape(model.config, workload.prefixLength, 0)
  const batch = madeUpBatch(model, workload, random)
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
  const times = Array.from({ length: runs }, () => program.time(feeds, [update]))
  await program.dispose()
  trainables.dispose()
  return times
}

async function decodingRuns(
  runtime: CudaRuntime,
  model: Model,
  form: string,
  rows: number,
  { promptTokens, training, kernelRuns }: DeviceWork,
): Promise<StepTime[][]> {
  const { prefixLength } = training
  const { pasts, prompts } = decodingInputs(model, { rows, promptLength: promptTokens, prefixLength })
  const layout = { ...model.config, rowsMax: rows }
  const session = await runtime.openSession(model.forwardGraph(), model.weights, layout, form)
  const runs = Array.from({ length: kernelRuns }, () => {
    pasts.forEach((past, row) => session.seed(row, past))
    session.time({ start: 0, tokens: prompts })
    return session.time({ start: 0, tokens: prompts.map(([token]) => [token as number]) })
  })
  await session.dispose()
  return runs
}

function byKernel(runs: readonly (readonly StepTime[])[], limit: number): Figures[] {
  const [first = []] = runs
  const byName = new Map<string, { count: number; ms: number; bytes: number; operations: number }>()
  first.forEach(({ name, bytes, operations }, i) => {
    const sum = byName.get(name) ?? { count: 0, ms: 0, bytes: 0, operations: 0 }
    sum.count += 1
    sum.ms += median(runs.map((run) => run[i]!.ms))
    sum.bytes += bytes
    sum.operations += operations
    byName.set(name, sum)
  })
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

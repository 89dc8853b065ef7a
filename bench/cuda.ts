// The GPU alone: training and decoding steps on the device, beside PEFT on the same one, and the time of each kernel.
import { openModel, type Model } from '../src/model/model.ts'
import type { CudaRuntime } from '../src/runtime/cuda/cuda.ts'
import { wrongResults } from '../src/runtime/self-check.ts'
import { refuseFigures, type DeviceWork } from './device-work.ts'
import { compareGeneration } from './generate-peft.ts'
import { openDecodingBench, weightBytes } from './generate.ts'
import { attentionOperations, measureKernels, timesOf } from './kernel-times.ts'
import { median, type Figures } from './machine.ts'
import { comparePeft, trainingFlags } from './peft.ts'
import { measurePeak } from './product-peak.ts'
import { measureTogether } from './together.ts'
import { openTrainingBench, type TrainingWorkload } from './train.ts'

export interface CudaBenchOptions {
  readonly folder: string
  /** Of the model whose steps are held against the peak of products. */
  readonly largeFolder: string
  readonly work: DeviceWork
  readonly rounds: number
  readonly threads: number
  /** PEFT beside ours; null: no rival. */
  readonly peft: DeviceRival | null
  /** Whether figures are to go into the page: those of the stand-in do not. */
  readonly write: boolean
  /** Looked through for NVIDIA's libraries first. */
  readonly libraries: readonly string[]
  /** Where compiled kernels are kept. */
  readonly kernels: string
}

export interface DeviceRival {
  /** With torch, transformers and peft. */
  readonly python: string
  /** PyTorch's name of what it computes on, printed beside its figures: cuda, or cpu where there is no device. */
  readonly device: string
}

/** What ours and PEFT's weights are in, besides float32. */
const half = 'bfloat16'
/** As the library that tests put in the place of NVIDIA's names its device. */
const standIn = 'stand-in'

/** `say` hears of each part as it is there: what a device has told is not lost where a later part fails. */
export async function measureCuda(
  options: CudaBenchOptions,
  say: (part: Readonly<Record<string, unknown>>) => void,
): Promise<Record<string, unknown>> {
  const { openCudaRuntime } = await import('../src/runtime/cuda/cuda.ts')
  const runtime = openCudaRuntime({ folder: options.kernels, libraries: options.libraries })
  if (options.write && runtime.description.startsWith(standIn)) refuseFigures(runtime.description)
  const wrong = await wrongResults(runtime)
  if (wrong !== null) throw new Error(`no figures of a device that computes wrong results: ${wrong}`)
  const model = await openModel(options.folder)
  const { rounds, work } = options
  const figures: Record<string, unknown> = {}
  const tell = (name: string, part: unknown): void => {
    figures[name] = part
    say({ [name]: part })
  }
  tell('device', runtime.description)
  for (const form of [half, 'float32'])
    tell(`training ${form}`, await measureTraining(runtime, model, form, work.training, options))
  tell(
    'together',
    await measureTogether(runtime, model, work.training, work.together, work.stepsPerRound * rounds, half),
  )
  for (const form of [half, 'float32']) {
    const decoding = []
    for (const rows of work.rows) decoding.push(await measureDecoding(runtime, model, rows, form, options))
    tell(`decoding ${form}`, decoding)
  }
  tell('generation', options.peft === null ? [] : await measureGeneration(runtime, model, options, options.peft))
  tell('kernels', await measureKernels(runtime, model, half, work))
  tell('large', await measureLarge(runtime, options))
  return figures
}

async function measureTraining(
  runtime: CudaRuntime,
  model: Model,
  form: string,
  workload: TrainingWorkload,
  { folder, rounds, threads, peft, work: { stepsPerRound } }: CudaBenchOptions,
): Promise<Figures> {
  const bench = await openTrainingBench(runtime, model, workload, form)
  try {
    if (peft !== null) {
      const flags = trainingFlags(workload)
      const compared = await comparePeft(bench, { ...peft, folder, dtype: half, threads, rounds, flags, stepsPerRound })
      return { model: model.name, form: bench.form, ...compared, peftDevice: peft.device }
    }
    const times: number[] = []
    for (let i = -2; i < stepsPerRound * rounds; i++) {
      const ms = await bench.step()
      // The first ones capture and warm up.
      if (i >= 0) times.push(ms)
    }
    const middle = median(times)
    const steps = { stepMsMedian: middle, stepMsMin: Math.min(...times), stepsPerSecond: 1000 / middle }
    return { model: model.name, form: bench.form, ...steps }
  } finally {
    await bench.dispose()
  }
}

/** Steps of the session alone, and the share of the memory's limit at which they read the weights. */
async function measureDecoding(
  runtime: CudaRuntime,
  model: Model,
  rows: number,
  form: string,
  { rounds, work }: CudaBenchOptions,
): Promise<Figures> {
  const { promptTokens, newTokens, training } = work
  const workload = { rows, promptLength: promptTokens, prefixLength: training.prefixLength }
  const bench = await openDecodingBench(runtime, model, workload, form)
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    await bench.prefill()
    // The first of a shape loads kernels, the second is captured.
    for (let i = -2; i < newTokens; i++) {
      const ms = await bench.step()
      if (i >= 0) times.push(ms)
    }
  }
  await bench.dispose()
  const read = weightBytes(model) / (form === half ? 2 : 1)
  return {
    rows,
    form,
    stepMsMedian: median(times),
    stepMsMin: Math.min(...times),
    tokensPerSecond: (1000 * rows) / median(times),
    weightGigabytesPerSecond: read / median(times) / 1e6,
    shareOfMemoryLimit: shareOf(runtime.bytesPerSecond, (1000 * read) / median(times)),
  }
}

/** Whole generations through the engine, each row with a prefix of its own, in turn with PEFT's one at a time. */
async function measureGeneration(
  runtime: CudaRuntime,
  model: Model,
  { folder, rounds, threads, work }: CudaBenchOptions,
  { python, device }: DeviceRival,
): Promise<Figures[]> {
  const figures: Figures[] = []
  const { promptTokens, newTokens } = work
  const common = { model, folder, rounds, threads, python, dtype: half, form: half, device, promptTokens, newTokens }
  for (const rows of work.rows) {
    const { prefixLength } = work.training
    figures.push(await compareGeneration(runtime, { ...common, rows, prefixLength, batch: rows > 1 }))
  }
  return figures
}

/** A training step whose products fill the device, against the most that products reach on it in this run. */
async function measureLarge(runtime: CudaRuntime, options: CudaBenchOptions): Promise<Figures> {
  const { largeFolder, peft, work } = options
  const model = await openModel(largeFolder)
  const { largeTraining: workload } = work
  const peak = await measurePeak(runtime, half, work.squares, options.rounds, peft)
  const step = await measureTraining(runtime, model, half, workload, { ...options, folder: largeFolder })
  const times = await timesOf(runtime, model, half, workload)
  const products = times.reduce((sum, { operations }) => sum + operations, 0)
  const attention = attentionOperations(model.config, workload)
  const teraflops = (products + attention) / Number(step['stepMsMedian']) / 1e9
  const most = Math.max(...Object.values(peak))
  const parts = { productTeraoperations: products / 1e12, attentionTeraoperations: attention / 1e12 }
  return { ...step, ...parts, teraflops, ...peak, shareOfPeak: teraflops / most }
}

const shareOf = (limit: number, value: number): number | string => (limit > 0 ? value / limit : 'unknown')

// The child process that trains: opens the model once and runs one job after the other.
import { constants, setPriority } from 'node:os'
import path from 'node:path'
import type { SandboxedJob } from 'bullmq'
import { readConfig } from '../config/config.ts'
import { defaultLimits, Engine } from '../engine/engine.ts'
import type { PrefixLoader } from '../engine/request.ts'
import { openModel, type Model } from '../model/model.ts'
import { Datasets } from '../prefix/datasets.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { createOnnxRuntime } from '../runtime/onnx/onnx.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { openStore } from '../store/open.ts'
import { openTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'
import { openTraining } from '../train/trainer.ts'
import { createCheckpoints } from './checkpoints.ts'
import type { TrainJobData } from './job.ts'
import { sampleOutputs, samplesMax, type SamplingEngine } from './samples.ts'
import { trainJob, type TrainingParts, type TrainingResult } from './training.ts'

/** Answers go first where trainings share a machine with them. */
const priority = constants.priority.PRIORITY_BELOW_NORMAL
/** Of a sample, input and output together: room enough for one, at little memory. */
const samplePositionsMax = 256

// Without its parent nobody would hear what comes of the training, and another worker takes the job up.
process.on('disconnect', () => process.exit(1))
try {
  setPriority(priority)
} catch {
  // Not everybody may: then it runs like everything else.
}

let opened: Promise<TrainingParts> | null = null

/** The processor: the queue's worker finds it as the default export of this file. */
export default async function train(
  job: SandboxedJob<TrainJobData>,
  _token: string,
  signal: AbortSignal,
): Promise<TrainingResult> {
  opened ??= openParts(process.env)
  try {
    return await trainJob(job, signal, await opened)
  } finally {
    // What could not be opened is opened anew for the next job.
    await opened.catch(() => (opened = null))
  }
}

async function openParts(env: NodeJS.ProcessEnv): Promise<TrainingParts> {
  const config = readConfig(env)
  const store = await openStore(config.storeUrl)
  const model = await openModel(config.model)
  const tokenizer = await openTokenizer(config.model)
  const log = (level: 'info' | 'warn', entry: object): unknown =>
    process.stderr.write(`${JSON.stringify({ level, ...entry })}\n`)
  const fast = {
    folder: path.join(config.data, 'quantized'),
    note: (message: string) => log('info', { message }),
    warn: (message: string) => log('warn', { message }),
  }
  const runtime = createOnnxRuntime({ threads: config.threads, fast })
  const openEngine = (load: PrefixLoader): Promise<SamplingEngine> => openSampling(runtime, model, tokenizer, load)
  return {
    registry: new PrefixRegistry(store),
    datasets: new Datasets(store),
    checkpoints: createCheckpoints(store),
    openTraining: (...asked) => openTraining({ runtime, model, tokenizer }, ...asked),
    sample: (prefix, heldOut) => sampleOutputs(prefix, heldOut, openEngine),
    warn: (message, error) => log('warn', { message, error: String(error) }),
  }
}

async function openSampling(
  runtime: Runtime,
  model: Model,
  tokenizer: Tokenizer,
  loadPrefix: PrefixLoader,
): Promise<SamplingEngine> {
  const { layers, heads, headDim, positionsMax } = model.config
  const layout = {
    layers,
    heads,
    headDim,
    rowsMax: samplesMax,
    positionsMax: Math.min(positionsMax, samplePositionsMax),
  }
  const session = await runtime.openSession(model.forwardGraph(), model.weights, layout)
  const engine = new Engine({ session, tokenizer, loadPrefix, limits: defaultLimits })
  return { generate: (request, signal) => engine.generate(request, signal), dispose: () => session.dispose() }
}

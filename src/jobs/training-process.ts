// The child process that trains and evaluates: opens the model once and does one job after the other.
import { constants, setPriority } from 'node:os'
import path from 'node:path'
import { readConfig } from '../config/config.ts'
import { openModel, playing } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { Datasets } from '../prefix/datasets.ts'
import { Evaluations } from '../prefix/evaluations.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { openRuntime } from '../runtime/open.ts'
import { openStore } from '../store/open.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import { noTracing, openTracing, type Tracing } from '../tracing/tracing.ts'
import { measureLoss } from '../train/evaluator.ts'
import { SharedSteps } from '../train/shared-steps.ts'
import { openTraining } from '../train/trainer.ts'
import type { ChildJob } from './child-messages.ts'
import { createCheckpoints } from './checkpoints.ts'
import { describeEnvironment } from './environment.ts'
import { evaluateJob, type EvaluationJob, type EvaluationParts, type EvaluationResult } from './evaluation.ts'
import { evaluateHeldOut } from './samples.ts'
import { samplingParts } from './sampling-engine.ts'
import { traceJob } from './traced-parts.ts'
import { trainJob, type TrainingJob, type TrainingParts, type TrainingResult } from './training.ts'

/** Answers go first where trainings share a machine with them. */
const priority = constants.priority.PRIORITY_BELOW_NORMAL

try {
  setPriority(priority)
} catch {
  // Not everybody may: then it runs like everything else.
}

type Parts = TrainingParts & EvaluationParts

let opened: Promise<Parts> | null = null
let tracing: Promise<Tracing> | null = null

/** The processor: a child process finds it as the default export of this file. */
export default async function run(job: ChildJob, signal: AbortSignal): Promise<TrainingResult | EvaluationResult> {
  opened ??= openParts(process.env)
  // The service itself has checked what is configured, and was not started with anything else.
  tracing ??= openTracing(process.env, (problem) => tell('warn', { problem, message: 'tracing' })).catch(
    () => noTracing,
  )
  try {
    return await traceJob(job, await opened, await tracing, async (parts) => {
      if (job.data.type === 'evaluate') return evaluateJob(job as EvaluationJob, signal, parts)
      return trainJob(job as TrainingJob, signal, parts)
    })
  } finally {
    // What could not be opened is opened anew for the next job.
    await opened.catch(() => (opened = null))
  }
}

async function openParts(env: NodeJS.ProcessEnv): Promise<Parts> {
  const config = readConfig(env)
  const store = await openStore(config.storeUrl)
  const model = await openModel(config.model)
  const tokenizer = await openTokenizer(config.model)
  const fast = {
    folder: path.join(config.data, 'quantized'),
    note: (message: string) => tell('info', { message }),
    warn: (message: string) => tell('warn', { message }),
  }
  const { runtime, info } = await openRuntime({
    room: { weights: model.weights, layout: null },
    choice: config.runtime,
    onnx: { threads: config.threads, fast },
    data: config.data,
    cudaLibraries: config.cudaLibraries,
    weights: 'borrows',
    warn: fast.warn,
    // The process ends, its jobs are taken up by the next one.
    onLost: (error) =>
      setImmediate(() => {
        throw error
      }),
  })
  tell('info', { message: `trainings run on ${info.name}: ${info.device}` })
  const steps = new SharedSteps(runtime, model)
  const registry = new PrefixRegistry(store)
  const sampling = samplingParts(runtime, model, tokenizer)
  const played = playing(model, tokenizer)
  return {
    ...sampling,
    registry,
    datasets: new Datasets(store),
    checkpoints: createCheckpoints(store),
    evaluations: new Evaluations(store),
    environment: {
      ...describeEnvironment(config.threads),
      ...(info.name !== 'onnx' && { device: info.device }),
    },
    openTraining: (...asked) => openTraining({ runtime, model, tokenizer, steps }, ...asked),
    evaluate: (prefix, heldOut, signal) => evaluateHeldOut(prefix, heldOut, signal, sampling),
    loadPrefix: async (id) => {
      const prefix = await registry.load(id)
      checkPrefixFits(prefix.header, played)
      return prefix
    },
    measureLoss: (prefix, examples) => measureLoss({ runtime, model, tokenizer }, prefix, examples),
    warn: (message, error) => tell('warn', { message, error: String(error) }),
  }
}

function tell(level: 'info' | 'warn', entry: object): void {
  process.stderr.write(`${JSON.stringify({ level, ...entry })}\n`)
}

// Trainings and decode steps of one model, as the page of benchmarks has them.
import { openModel, type Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { packedRuntime } from './decoding-forms.ts'
import { measureDecoding, sample, summarize } from './decoding-read.ts'
import type { Figures } from './machine.ts'
import { comparePeft } from './peft.ts'
import { compareRealBatches } from './real-batches.ts'
import type { Decodings, Trainings } from './report.ts'
import { measureTogether } from './together.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'

export interface TrainingSettings {
  readonly folder: string
  readonly precisions: readonly string[]
  /** A Python with torch, transformers and peft, to train in turn with PEFT; null: ours alone. */
  readonly peft: { readonly python: string; readonly dtype: string } | null
  readonly threads: number
  readonly rounds: number
}

/** A pass over real records takes as long as many made-up steps. */
const realRoundsMax = 3
/** Trainings that are measured side by side. */
const trainingsTogether = 4

export async function measureTrainings(settings: TrainingSettings): Promise<Trainings> {
  const { folder, precisions, peft, threads, rounds } = settings
  const [runtime, model] = [packedRuntime(threads), await openModel(folder)]
  const [training, real]: [Figures[], Figures[]] = [[], []]
  for (const precision of precisions) training.push(await measureTraining(runtime, model, precision, settings))
  const together = await measureTogether(runtime, model, canonicalTraining, trainingsTogether, rounds)
  if (peft !== null) {
    const options = { ...peft, folder, threads, rounds: Math.min(rounds, realRoundsMax) }
    for (const precision of precisions) real.push(await compareRealBatches(runtime, model, precision, options))
  }
  return { model: model.name, training, real, together }
}

async function measureTraining(
  runtime: Runtime,
  model: Model,
  precision: string,
  { folder, peft, threads, rounds }: TrainingSettings,
): Promise<Figures> {
  const training = await openTrainingBench(runtime, model, canonicalTraining, precision)
  const report =
    peft === null
      ? summarize('step', await sample(() => training.step(), rounds, 1))
      : await comparePeft(training, { ...peft, folder, threads, rounds })
  await training.dispose()
  return { form: training.form, ...report }
}

export async function measureDecodings(
  folder: string,
  settings: { readonly rows: number; readonly threads: number; readonly rounds: number },
): Promise<Decodings> {
  const [runtime, model] = [packedRuntime(settings.threads), await openModel(folder)]
  const decoding: Figures[] = []
  for (const rows of new Set([1, settings.rows]))
    decoding.push(await measureDecoding(runtime, model, { ...settings, rows }))
  return { model: model.name, decoding }
}

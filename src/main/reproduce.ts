// Trains a prefix again from what its record says, without a queue, and compares the result bit for bit; nothing is written.
import type { Config } from '../config/config.ts'
import { ServiceError } from '../errors/errors.ts'
import { describeEnvironment } from '../jobs/environment.ts'
import { parseStartingLabel } from '../jobs/job.ts'
import { loadData } from '../jobs/training.ts'
import { openModel } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { Datasets } from '../prefix/datasets.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixRecord } from '../prefix/record.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { openRuntime } from '../runtime/open.ts'
import { openStore } from '../store/open.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import type { TrainingOptions, TrainingProgress, TrainingRun } from '../train/options.ts'
import { openTraining, type TrainerParts } from '../train/trainer.ts'

export interface ReproductionParts {
  readonly registry: Pick<PrefixRegistry, 'findReady' | 'load'>
  readonly datasets: Pick<Datasets, 'get'>
  /** For records that do not say with how many threads they were trained. */
  readonly threads: number
  readonly openTrainer: (threads: number) => Promise<TrainerParts>
}

export interface Reproduction {
  /** Keys and values, bit for bit. */
  readonly isIdentical: boolean
  /** Keys and values compared. */
  readonly numbers: number
  /** In words: of the numbers, then of what they were computed by. The latter may differ and the numbers not. */
  readonly differences: readonly string[]
}

/** The store and model of the service, in this process. */
export async function openReproduction(config: Config): Promise<ReproductionParts> {
  const store = await openStore(config.storeUrl)
  const openTrainer = async (threads: number): Promise<TrainerParts> => ({
    runtime: await openTrainingRuntime(config, threads),
    model: await openModel(config.model),
    tokenizer: await openTokenizer(config.model),
  })
  return { registry: new PrefixRegistry(store), datasets: new Datasets(store), threads: config.threads, openTrainer }
}

async function openTrainingRuntime(config: Config, threads: number): Promise<TrainerParts['runtime']> {
  const { runtime } = await openRuntime({
    choice: config.runtime,
    onnx: { threads },
    data: config.data,
    cudaLibraries: config.cudaLibraries,
    warn: (message) => process.stderr.write(`${message}\n`),
    // The step that was told of it throws the same.
    onLost: () => undefined,
  })
  return runtime
}

/**
 * Throws `prefix_not_found`, `prefix_not_ready`, `prefix_model_mismatch` where the service runs another model or tokenizer,
 * `dataset_not_found`, or `not_supported` where the record does not say how the prefix was made.
 */
export async function reproduce(
  idOrName: string,
  parts: ReproductionParts,
  onStart: (record: PrefixRecord) => void,
  onProgress: (progress: TrainingProgress) => void,
): Promise<Reproduction> {
  const record = await parts.registry.findReady(idOrName)
  const { id, dataset, validation, training, template } = record
  if (dataset === null || validation === null) {
    const missing = dataset === null ? 'the examples it was trained on' : 'which examples were held out'
    throw new ServiceError('not_supported', `the record of prefix ${id} does not name ${missing}`, { prefix: id })
  }
  const stored = await parts.registry.load(id)
  const threads = typeof training['threads'] === 'number' ? training['threads'] : parts.threads
  const trainer = await parts.openTrainer(threads)
  const { model, tokenizer } = trainer
  const { name, sha256 } = model
  checkPrefixFits(stored.header, { ...model.config, name, sha256, tokenizerSha256: tokenizer.sha256 })
  onStart(record)
  // As used they are a full set of options: what was chosen is filled in.
  const options = training as unknown as TrainingOptions
  const from = parseStartingLabel(training['from'])
  const data = await loadData({ prefixId: id, datasetId: dataset.id, validation, template, options, from }, parts)
  const run = await openTraining(trainer, data, options, null)
  try {
    for await (const progress of run.steps(new AbortController().signal)) onProgress(progress)
    const numbers = differingNumbers(stored, await run.prefix())
    return {
      isIdentical: numbers.length === 0,
      numbers: stored.keys.length + stored.values.length,
      differences: [...numbers, ...differingMakers(record, run, threads)],
    }
  } finally {
    await run.dispose()
  }
}

function differingNumbers(stored: Prefix, made: Prefix): string[] {
  return (['keys', 'values'] as const).flatMap((what) => {
    const [before, now] = [stored[what], made[what]]
    if (before.length !== now.length) return [`${what}: ${before.length} numbers are stored, ${now.length} came out`]
    const [a, b] = [bitsOf(before), bitsOf(now)]
    const places = [...a.keys()].filter((place) => a[place] !== b[place])
    const [first] = places
    if (first === undefined) return []
    const largest = places.reduce((max, place) => Math.max(max, distance(before, now, place)), 0)
    const one = `${before[first]} is stored and ${now[first]} came out`
    return [
      `${what}: ${places.length} of ${a.length} numbers differ by up to ${largest}; the first, number ${first}: ${one}`,
    ]
  })
}

/** Bits and not values: zero has two of them, and what is not a number differs from itself. */
function bitsOf(numbers: Float32Array): Uint32Array {
  return new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length)
}

function distance(a: Float32Array, b: Float32Array, place: number): number {
  return Math.abs((a[place] as number) - (b[place] as number))
}

function differingMakers({ training, step }: PrefixRecord, run: TrainingRun, threads: number): string[] {
  const before: Readonly<Record<string, unknown>> = { ...training, step }
  const now = { ...run.used, ...describeEnvironment(threads), step: run.step }
  return Object.entries(now).flatMap(([name, value]) => {
    const was = before[name]
    if (JSON.stringify(was) === JSON.stringify(value)) return []
    return [`${name}: ${was === undefined ? 'not recorded' : JSON.stringify(was)} then, ${JSON.stringify(value)} now`]
  })
}

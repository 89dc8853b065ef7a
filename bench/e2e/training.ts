// Trains several prefixes side by side over one model, and keeps checkpoints, so that a run that was stopped goes on.
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { defaultTemplate } from '../../src/prefix/template.ts'
import type { TrainingData, TrainingProgress } from '../../src/train/options.ts'
import { openTraining, type TrainerParts } from '../../src/train/trainer.ts'
import type { Corpus } from './corpus.ts'
import type { Plan } from './plans.ts'

/** Steps between two checkpoints of a training. */
const checkpointEvery = 50
/** A line of progress so often, in ms. */
const lineEveryMs = 15_000

/**
 * Examples of the development set by which the best step is chosen: 30 % of the number trained on, as in the paper's low-data
 * runs (Li & Liang 2021, section 6.3), and at most so many.
 */
const validationMax = 64
const validationShare = 0.3

export interface Trained {
  readonly prefix: Prefix
  /** Optimizer steps done. */
  readonly steps: number
}

/** `folder` holds checkpoints: of a training that is over the last one, until `forgetTraining`. */
export async function train(
  parts: TrainerParts,
  corpus: Corpus,
  { id, examples, options }: Plan,
  folder: string,
): Promise<Trained> {
  const validation = Math.min(validationMax, Math.ceil(validationShare * examples))
  const data: TrainingData = {
    examples: corpus.train.slice(0, examples),
    heldOut: corpus.dev.pairs.slice(0, validation),
    template: defaultTemplate,
    from: null,
  }
  const file = checkpointFile(folder, id)
  const run = await openTraining(parts, data, options, await readIfThere(file))
  try {
    let shownMs = performance.now()
    for await (const progress of run.steps(new AbortController().signal)) {
      const isLast = progress.step === progress.steps
      const checkpoint = isLast || progress.step % checkpointEvery === 0 ? run.checkpoint() : null
      if (checkpoint !== null) await writeWhole(file, checkpoint)
      if (performance.now() - shownMs < lineEveryMs) continue
      shownMs = performance.now()
      show(id, progress)
    }
    return { prefix: await run.prefix(), steps: run.step }
  } finally {
    await run.dispose()
  }
}

/** Once its result is kept. */
export async function forgetTraining({ id }: Plan, folder: string): Promise<void> {
  await rm(checkpointFile(folder, id), { force: true })
}

function checkpointFile(folder: string, id: string): string {
  return path.join(folder, `${id.replaceAll('/', '-')}.checkpoint`)
}

function show(id: string, { step, steps, loss, validationLoss, etaMs }: TrainingProgress): void {
  const held = validationLoss === null ? '' : `  held-out ${validationLoss.toFixed(3)}`
  const line = `step ${step} of ${steps}  loss ${loss.toFixed(3)}${held}  ${Math.ceil(etaMs / 1000)} s left`
  process.stdout.write(`${id.padEnd(24)} ${line}\n`)
}

async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true })
  await writeFile(`${file}.partial`, bytes)
  await rename(`${file}.partial`, file)
}

async function readIfThere(file: string): Promise<Uint8Array | null> {
  try {
    return await readFile(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

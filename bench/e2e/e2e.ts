// E2E at scale: trains on all of the data set, on less and less of it, and with other options, and scores what comes of it.
import { openModel } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'
import { measureLoss } from '../../src/train/evaluator.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import type { TrainerParts } from '../../src/train/trainer.ts'
import { describeMachine } from '../machine.ts'
import { drawn, readCorpus, type Corpus } from './corpus.ts'
import { basePlan, fullPlan, smallPlans, type Plan } from './plans.ts'
import { writePage } from './page.ts'
import { addResult, readResults, type Result } from './results.ts'
import { score } from './scoring.ts'
import { forgetTraining, train, type Trained } from './training.ts'

/** `small` is all but `full`, `page` trains nothing. */
export const parts = ['all', 'full', 'small', 'curve', 'ablations', 'page'] as const
export type Part = (typeof parts)[number]

export interface E2eOptions {
  /** The data set; null where nothing is to be trained. */
  readonly data: string | null
  readonly part: Part
  /** Folder of the frozen model. */
  readonly model: string
  readonly threads: number
  /** Trainings side by side. */
  readonly together: number
  /** Folder of checkpoints. */
  readonly checkpoints: string
}

/** Test records that every prefix is scored on. */
const sampleRecords = 100
/** Test pairs that every prefix's loss is measured on. */
const lossPairs = 256

/** Trains what is not in the results yet, then writes the page from all of them. */
export async function runE2e(options: E2eOptions): Promise<void> {
  if (options.part !== 'page') await measureAll(options)
  process.stdout.write(`wrote ${(await writePage()).join(', ')}\n`)
}

async function measureAll({ data, part, model: folder, threads, together, checkpoints }: E2eOptions): Promise<void> {
  if (data === null) throw new Error('--data FOLDER is missing: the folder with src1_train.txt and its like')
  const corpus = await readCorpus(data)
  const model = await openModel(folder)
  const runtime = createOnnxRuntime({ threads })
  const tokenizer = await openTokenizer(folder)
  const opened = { runtime, model, tokenizer, steps: new SharedSteps(runtime, model) }
  const plans = plansOf(part, corpus).filter(({ id }) => !readResults().some((result) => result.id === id))
  // First trained together and then measured: a decode step beside trainings would wait for a step of theirs each time.
  for (const some of wavesOf(plans, together)) {
    const trained = await Promise.all(some.map((plan) => train(opened, corpus, plan, checkpoints)))
    for (const [i, plan] of some.entries()) {
      const result = await measure(opened, corpus, plan, trained[i] as Trained)
      addResult(result)
      await forgetTraining(plan, checkpoints)
      const loss = result.testLoss?.toFixed(3)
      process.stdout.write(
        `${plan.id.padEnd(24)} done: test loss ${loss}, BLEU ${result.sample?.['bleu']?.toFixed(1)}\n`,
      )
    }
  }
  if (part === 'all' || part === 'full') await measureBare(opened, corpus)
}

/** At most `together` at a time; the one of all the data goes alone, since it takes so much longer. */
function wavesOf(plans: readonly Plan[], together: number): Plan[][] {
  const waves: Plan[][] = []
  for (const plan of plans) {
    const last = waves.at(-1)
    const isAlone = plan.study === 'full' || last?.[0]?.study === 'full'
    if (last === undefined || last.length === together || isAlone) waves.push([plan])
    else last.push(plan)
  }
  return waves
}

function plansOf(part: Part, corpus: Corpus): Plan[] {
  const full = part === 'all' || part === 'full' ? [fullPlan(corpus.train.length)] : []
  const ofCurve = ({ study }: Plan): boolean => study === 'curve'
  const isAsked = (plan: Plan): boolean => {
    if (part === 'curve') return ofCurve(plan) || plan === basePlan
    return part === 'all' || part === 'small' || (part === 'ablations' && !ofCurve(plan))
  }
  return [...full, ...smallPlans().filter(isAsked)]
}

async function measure(
  opened: TrainerParts,
  { dev, test }: Corpus,
  { id, study, examples }: Plan,
  { prefix, steps }: Trained,
): Promise<Result> {
  const { training } = prefix.header
  const sample = await score(opened, prefix, drawn(test.records, sampleRecords))
  const whole = study === 'full' ? await measureWhole(opened, prefix, { dev, test }) : {}
  return {
    id,
    study,
    examples,
    training,
    steps,
    bestStep: training['step'] as number,
    validationLoss: training['validationLoss'] as number | null,
    testLoss: (await measureLoss(opened, prefix, test.pairs.slice(0, lossPairs))) as number,
    sample: sample.scores,
    ...whole,
    machine: describeMachine(),
  }
}

/** Both sets whole, and what is said of the first test records. */
async function measureWhole(
  opened: TrainerParts,
  prefix: Prefix | null,
  { dev, test }: Pick<Corpus, 'dev' | 'test'>,
): Promise<Pick<Result, 'dev' | 'test' | 'texts'>> {
  const [onDev, onTest] = [await score(opened, prefix, dev.records), await score(opened, prefix, test.records)]
  return { dev: onDev.scores, test: onTest.scores, texts: onTest.texts }
}

/** The frozen model without any prefix. */
async function measureBare(opened: TrainerParts, { dev, test }: Corpus): Promise<void> {
  if (readResults().some(({ id }) => id === 'bare')) return
  const sample = await score(opened, null, drawn(test.records, sampleRecords))
  addResult({
    id: 'bare',
    study: 'bare',
    examples: 0,
    training: {},
    steps: 0,
    bestStep: 0,
    validationLoss: null,
    testLoss: null,
    sample: sample.scores,
    ...(await measureWhole(opened, null, { dev, test })),
    machine: describeMachine(),
  })
}

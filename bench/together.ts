// Times trainings that share their steps beside the same ones taken one after the other.
import { setTimeout } from 'node:timers/promises'
import { Random } from '../src/random/random.ts'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import type { EncodedExample } from '../src/train/encode.ts'
import { GradientSteps } from '../src/train/gradients.ts'
import { prefixShape } from '../src/train/parameters.ts'
import { SharedSteps } from '../src/train/shared-steps.ts'
import { median, type Figures } from './machine.ts'
import { benchPlan, madeUpBatch, MadeUpTraining, type TrainingWorkload } from './train.ts'

/** For idle threads to stop spinning. */
const settleMs = 100

/** Optimizer steps of `count` trainings, each with data and prefix of its own, together and apart by turns. */
export async function measureTogether(
  runtime: Runtime,
  model: Model,
  workload: TrainingWorkload,
  count: number,
  rounds: number,
  form = 'float32',
): Promise<Figures> {
  const random = new Random(3)
  const shape = prefixShape(model.config, workload.prefixLength, 0)
  const batches = Array.from({ length: count }, () => madeUpBatch(model, workload, random))
  const join = (steps: SharedSteps): GradientSteps => new GradientSteps(steps, shape, benchPlan, form)
  const shared = new SharedSteps(runtime, model)
  const joined = batches.map(() => join(shared))
  const members = joined.map((gradients) => new MadeUpTraining(runtime, gradients, shape, random))
  // One after the other in one place, as the next would follow once the one before is done.
  const single = join(new SharedSteps(runtime, model))
  const alone = batches.map(() => new MadeUpTraining(runtime, single, shape, random))
  const stepOf = (training: MadeUpTraining, i: number): Promise<void> =>
    training.step(batches[i] as readonly EncodedExample[])
  const time = async (work: () => Promise<unknown>): Promise<number> => {
    const startMs = performance.now()
    await work()
    return performance.now() - startMs
  }
  const together = (): Promise<unknown> => Promise.all(members.map(stepOf))
  const apart = async (): Promise<void> => {
    for (const [i, training] of alone.entries()) await stepOf(training, i)
  }
  const togetherMs: number[] = []
  const apartMs: number[] = []
  const ratios: number[] = []
  // The first compiles what is missing, and a device captures the second.
  for (let round = -2; round < rounds; round++) {
    const mine = await time(together)
    await setTimeout(settleMs)
    const theirs = await time(apart)
    await setTimeout(settleMs)
    if (round < 0) continue
    togetherMs.push(mine)
    apartMs.push(theirs)
    ratios.push(theirs / mine)
  }
  for (const training of [...members, ...alone]) training.dispose()
  for (const gradients of [...joined, single]) gradients.leave()
  return {
    trainings: count,
    form,
    togetherMs: median(togetherMs),
    apartMs: median(apartMs),
    timesFasterMedian: median(ratios),
    timesFasterMin: Math.min(...ratios),
    timesFasterMax: Math.max(...ratios),
  }
}

// Times trainings that share their steps beside the same ones taken one after the other.
import { setTimeout } from 'node:timers/promises'
import { Random } from '../src/random/random.ts'
import type { Model } from '../src/model/model.ts'
import type { Feeds, Runtime } from '../src/runtime/runtime.ts'
import { sizeOf } from '../src/tensor/tensor.ts'
import { batchFeeds, lossWeight, parameterFeeds } from '../src/train/feeds.ts'
import { parameterShapes, prefixShape, type Parameters } from '../src/train/parameters.ts'
import { SharedSteps } from '../src/train/shared-steps.ts'
import { median, type Figures } from './machine.ts'
import { madeUpBatch, type TrainingWorkload } from './train.ts'

/** For idle threads to stop spinning. */
const settleMs = 100

/** Forward and backward of `count` trainings, each with data and prefix of its own, together and apart by turns. */
export async function measureTogether(
  runtime: Runtime,
  model: Model,
  workload: TrainingWorkload,
  count: number,
  rounds: number,
): Promise<Figures> {
  const random = new Random(3)
  const shape = prefixShape(model.config, workload.prefixLength, 0)
  const feeds = Array.from({ length: count }, () => {
    const parameters: Parameters = new Map(
      [...parameterShapes(shape)].map(([name, extents]) => [
        name,
        Float32Array.from({ length: sizeOf(extents) }, () => 0.1 * random.normal()),
      ]),
    )
    const batch = madeUpBatch(model, workload, random)
    return { ...batchFeeds(batch, shape, lossWeight(batch, 'mean')), ...parameterFeeds(parameters, shape) }
  })
  const kind = { shape, dropout: false, smoothing: 0, form: 'float32' }
  const shared = new SharedSteps(runtime, model)
  const members = feeds.map(() => shared.join(kind))
  const single = new SharedSteps(runtime, model)
  const alone = single.join(kind)
  const time = async (work: () => Promise<unknown>): Promise<number> => {
    const startMs = performance.now()
    await work()
    return performance.now() - startMs
  }
  const together = (): Promise<unknown> => Promise.all(members.map((member, i) => member.run(feeds[i] as Feeds)))
  const apart = async (): Promise<void> => {
    for (const own of feeds) await alone.run(own)
  }
  const togetherMs: number[] = []
  const apartMs: number[] = []
  const ratios: number[] = []
  for (let round = -1; round < rounds; round++) {
    const mine = await time(together)
    await setTimeout(settleMs)
    const theirs = await time(apart)
    await setTimeout(settleMs)
    if (round < 0) continue
    togetherMs.push(mine)
    apartMs.push(theirs)
    ratios.push(theirs / mine)
  }
  for (const member of [...members, alone]) member.leave()
  return {
    trainings: count,
    togetherMs: median(togetherMs),
    apartMs: median(apartMs),
    timesFasterMedian: median(ratios),
    timesFasterMin: Math.min(...ratios),
    timesFasterMax: Math.max(...ratios),
  }
}

// Decode steps in float32 in turn with the plainest read of as many bytes.
import { setTimeout } from 'node:timers/promises'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openDecodingBench, openPlainRead, weightBytes } from './generate.ts'
import { median, spread, type Figures } from './machine.ts'

/** For idle threads to stop spinning. */
const settleMs = 100

export interface DecodingSettings {
  readonly rows: number
  readonly threads: number
  readonly rounds: number
}

/** Decode steps of one round, and as many reads. */
const tokensPerRound = 32

/** In turn with the read. */
export async function measureDecoding(
  runtime: Runtime,
  model: Model,
  { rows, threads, rounds }: DecodingSettings,
): Promise<Figures> {
  const bench = await openDecodingBench(runtime, model, { rows, promptLength: 32, prefixLength: 10 })
  const plain = openPlainRead(weightBytes(model), threads)
  const single = openPlainRead(weightBytes(model), 1)
  await Promise.all([plain.read(), single.read()])
  const stepsMs: number[] = []
  const readsMs: number[] = []
  const singleMs: number[] = []
  const ratios: number[] = []
  for (let round = 0; round < rounds; round++) {
    await bench.prefill()
    // A first step warms what the prompt left cold.
    await bench.step()
    // In blocks: threads of the one side go on spinning for a while, and would be in the other's way.
    const steps = await sample(() => bench.step(), tokensPerRound, 0)
    await setTimeout(settleMs)
    const reads = await sample(() => plain.read(), tokensPerRound, 1)
    stepsMs.push(...steps)
    readsMs.push(...reads)
    singleMs.push(...(await sample(() => single.read(), tokensPerRound, 1)))
    ratios.push(median(steps) / median(reads))
  }
  await Promise.all([bench.dispose(), plain.dispose(), single.dispose()])
  return {
    rows,
    ...summarize('step', stepsMs),
    tokensPerSecond: (1000 * rows) / median(stepsMs),
    plainReadMs: median(readsMs),
    plainReadOneThreadMs: median(singleMs),
    ...spread('timesPlainRead', ratios),
  }
}

/** Of each of `rounds`, in ms. */
export async function sample(step: () => Promise<number>, rounds: number, warmUp: number): Promise<number[]> {
  const times: number[] = []
  for (let i = -warmUp; i < rounds; i++) {
    const ms = await step()
    if (i >= 0) times.push(ms)
  }
  return times
}

export function summarize(name: string, timesMs: readonly number[]): Record<string, number> {
  return {
    [`${name}MsMedian`]: median(timesMs),
    [`${name}MsMin`]: Math.min(...timesMs),
    [`${name}sPerSecond`]: 1000 / median(timesMs),
    peakMemoryMiB: process.resourceUsage().maxRSS / 1024,
  }
}

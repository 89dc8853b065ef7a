// Training and decoding steps on whatever GPU there is, in turn with the CPU of the same machine.
import { setTimeout } from 'node:timers/promises'
import { openModel, type Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { wrongResults } from '../src/runtime/self-check.ts'
import { packedRuntime } from './decoding-forms.ts'
import { refuseFigures, type DeviceWork } from './device-work.ts'
import { openDecodingBench } from './generate.ts'
import { median, spread, type Figures } from './machine.ts'
import { openTrainingBench } from './train.ts'

export interface WebgpuBenchOptions {
  readonly folder: string
  readonly work: DeviceWork
  readonly rounds: number
  readonly threads: number
  /** Whether figures are to go into the page: those of a driver in software do not. */
  readonly write: boolean
}

/** For idle threads of the CPU to stop spinning. */
const settleMs = 150

interface Side {
  readonly name: string
  /** Milliseconds of each of so many steps. */
  steps(count: number): Promise<readonly number[]>
  close(): Promise<void>
}

export async function measureWebgpu(options: WebgpuBenchOptions): Promise<Record<string, unknown>> {
  const { findAdapters } = await import('../src/runtime/webgpu/adapters.ts')
  const { adapters, problem } = findAdapters()
  const [adapter] = adapters
  if (adapter === undefined) throw new Error(problem ?? 'there is no GPU')
  if (options.write && adapter.kind === 'software') refuseFigures(adapter.name)
  const { openWebgpuRuntime } = await import('../src/runtime/webgpu/webgpu.ts')
  const runtime = await openWebgpuRuntime({ adapter })
  const wrong = await wrongResults(runtime)
  if (wrong !== null) throw new Error(`no figures of a device that computes wrong results: ${wrong}`)
  const model = await openModel(options.folder)
  const runtimes = [runtime, packedRuntime(options.threads)]
  const training = await compare(await Promise.all(runtimes.map((each) => trainingSide(each, model, options))), options)
  const decoding: Figures[] = []
  for (const rows of options.work.rows) {
    const sides = await Promise.all(runtimes.map((each) => decodingSide(each, model, rows, options)))
    const compared = await compare(sides, {
      ...options,
      work: { ...options.work, stepsPerRound: options.work.newTokens },
    })
    decoding.push(...compared.map((figures) => ({ rows, ...figures, tokensPerSecond: rows * figures.stepsPerSecond })))
  }
  return { device: runtime.description, model: model.name, training, decoding }
}

async function trainingSide(runtime: Runtime, model: Model, { work }: WebgpuBenchOptions): Promise<Side> {
  const bench = await openTrainingBench(runtime, model, work.training)
  return { name: runtime.name, steps: (count) => timed(count, () => bench.step()), close: () => bench.dispose() }
}

async function decodingSide(runtime: Runtime, model: Model, rows: number, { work }: WebgpuBenchOptions): Promise<Side> {
  const { prefixLength } = work.training
  const bench = await openDecodingBench(runtime, model, { rows, promptLength: work.promptTokens, prefixLength })
  return {
    name: runtime.name,
    steps: async (count) => {
      await bench.prefill()
      // A first step warms what the prompt left cold.
      await bench.step()
      return timed(count, () => bench.step())
    },
    close: () => bench.dispose(),
  }
}

async function timed(count: number, step: () => Promise<number>): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) times.push(await step())
  return times
}

/** The device's figures, with how many times as fast it is, and the CPU's. */
async function compare(
  sides: readonly Side[],
  { rounds, work }: WebgpuBenchOptions,
): Promise<(Figures & { readonly stepsPerSecond: number })[]> {
  const all: number[][] = sides.map(() => [])
  const ratios: number[] = []
  for (let round = -1; round < rounds; round++) {
    const middles: number[] = []
    for (const [i, side] of sides.entries()) {
      const times = await side.steps(work.stepsPerRound)
      await setTimeout(settleMs)
      middles.push(median(times))
      if (round >= 0) all[i]?.push(...times) // The first round warms up.
    }
    if (round >= 0) ratios.push((middles[1] as number) / (middles[0] as number))
  }
  for (const side of sides) await side.close()
  return sides.map(({ name }, i) => {
    const middle = median(all[i] as number[])
    const times = { stepMsMedian: middle, stepMsMin: Math.min(...(all[i] as number[])), stepsPerSecond: 1000 / middle }
    return { what: name === 'onnx' ? 'the CPU' : name, ...times, ...(i === 0 ? spread('timesFaster', ratios) : {}) }
  })
}

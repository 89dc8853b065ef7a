// Times decode steps of many prefixes in float32 and in 8 bits, in turn with engines that serve no prefix at all.
import { setTimeout } from 'node:timers/promises'
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { sample } from './decoding-read.ts'
import { openDecodingBench, openPlainRead, weightBytes } from './generate.ts'
import { median, spread, type Figures } from './machine.ts'
import { openRival } from './rival.ts'

export const decodeRivals = ['ctranslate2', 'llama.cpp'] as const
export const decodedRows = [1, 8, 32] as const

const [prefixLength, promptLength] = [10, 32]
/** Steps of each side in one round. */
const stepsPerRound = 24
/** For idle threads to stop spinning. */
const settleMs = 150

export interface DecodeOptions {
  readonly folder: string
  readonly threads: number
  readonly rounds: number
  /** In which we decode, each in turn with the others. */
  readonly forms: readonly string[]
  readonly rivals: readonly string[]
  /** With ctranslate2, llama_cpp_python, gguf, safetensors and numpy. */
  readonly python: string
}

export interface Side {
  readonly name: string
  /** Milliseconds of each of so many steps, after a fresh prompt. */
  steps(count: number): Promise<readonly number[]>
  close(): Promise<void>
}

/** For `rows` rows, each with its own prefix here; the rivals' prompts are longer by a prefix, so that all look back as far. */
export async function measureDecode(
  runtime: Runtime,
  model: Model,
  rows: number,
  options: DecodeOptions,
): Promise<readonly Figures[]> {
  const ours: Side[] = []
  for (const form of options.forms) ours.push(await ourSide(runtime, model, rows, form))
  const rivals: Side[] = []
  for (const rival of options.rivals) rivals.push(await rivalSide(rival, rows, options))
  return takeTurns(rows, { ours, rivals, others: [readSide(model, options.threads)] }, options.rounds)
}

/** Steps of all sides by turns; of ours, how many times as long the better rival takes. Closes them all. */
export async function takeTurns(
  rows: number,
  {
    ours,
    rivals,
    others,
  }: { readonly ours: readonly Side[]; readonly rivals: readonly Side[]; readonly others: readonly Side[] },
  rounds: number,
): Promise<readonly Figures[]> {
  const sides = [...ours, ...rivals, ...others]
  const all = new Map(sides.map(({ name }) => [name, [] as number[]]))
  const middles = new Map(sides.map(({ name }) => [name, [] as number[]]))
  for (let round = -1; round < rounds; round++) {
    for (const side of sides) {
      const ms = await side.steps(stepsPerRound)
      await setTimeout(settleMs)
      if (round < 0) continue // All warm up.
      all.get(side.name)?.push(...ms)
      middles.get(side.name)?.push(median(ms))
    }
  }
  for (const side of sides) await side.close()
  const theirs = rivals.map(({ name }) => middles.get(name) as number[])
  return sides.map((side) => ({
    rows,
    what: side.name,
    stepMsMedian: median(all.get(side.name) as number[]),
    stepMsMin: Math.min(...(all.get(side.name) as number[])),
    tokensPerSecond: (1000 * rows) / median(all.get(side.name) as number[]),
    ...(ours.includes(side) && theirs.length > 0 ? ratios(middles.get(side.name) as number[], theirs) : {}),
  }))
}

/** How many times as long the better rival takes, round by round. */
function ratios(ours: readonly number[], others: readonly (readonly number[])[]): Figures {
  const times = ours.map((ms, round) => Math.min(...others.map((each) => each[round] as number)) / ms)
  return spread('timesFaster', times)
}

async function ourSide(runtime: Runtime, model: Model, rows: number, form: string): Promise<Side> {
  const bench = await openDecodingBench(runtime, model, { rows, promptLength, prefixLength }, form)
  return {
    name: form,
    steps: async (count) => {
      await bench.prefill()
      // A first step warms what the prompt left cold.
      return sample(() => bench.step(), count, 1)
    },
    close: () => bench.dispose(),
  }
}

export async function rivalSide(
  engine: string,
  rows: number,
  { folder, threads, python }: Pick<DecodeOptions, 'folder' | 'threads' | 'python'>,
): Promise<Side> {
  const shape = ['--rows', String(rows), '--prompt-tokens', String(prefixLength + promptLength)]
  const flags = ['--engine', engine, '--model', folder, '--threads', String(threads), ...shape]
  const rival = await openRival(python, 'decode.py', flags)
  return {
    name: `${engine} ${String(rival.about['version'])}`,
    steps: async (count) => (await rival.run(count))['stepsMs'] as readonly number[],
    close: async () => rival.quit(),
  }
}

/** A byte for each weight that a step reads. */
function readSide(model: Model, threads: number): Side {
  const plain = openPlainRead(weightBytes(model) / 4, threads)
  return {
    name: 'plain read of 8-bit weights',
    steps: (count) => sample(() => plain.read(), count, 0),
    close: () => plain.dispose(),
  }
}

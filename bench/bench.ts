// Without arguments: one canonical workload, two numbers. Flags name other shapes, folders and rivals.
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openModel, type Model } from '../src/model/model.ts'
import { createOnnxRuntime } from '../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openDecodingBench, openPlainRead, weightBytes } from './generate.ts'
import { describeMachine, median } from './machine.ts'
import { comparePeft } from './peft.ts'
import { measureService } from './service.ts'
import { shapeModel, shapes, type ShapeName } from './shape-model.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'

const usage = `npm run bench -- [service] [options]
  service                    answers of the whole service while it trains, instead of the two numbers
  --shape gpt2|gpt2-medium   seeded weights of that shape, made once
  --model DIR                a model folder (default: the model that comes with the project)
  --rows N                   rows that decode side by side, each with its own prefix (default 8)
  --rounds N                 measured rounds (default 5)
  --threads N                threads inside one operator (default: all processors)
  --against peft             train step by step in turn with PEFT; needs --python PATH with torch, transformers and peft
  --json                     print for programs
`

/** For idle threads to stop spinning. */
const settleMs = 100

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shape: { type: 'string' },
    model: { type: 'string', default: 'model' },
    rows: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    against: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

async function run(): Promise<void> {
  const [rows, rounds, threads] = [count('rows'), count('rounds'), count('threads')]
  const cache = path.join(tmpdir(), 'preamble-bench')
  const folder = values.shape === undefined ? values.model : await shapeModel(shapeName(values.shape), cache)
  const model = await openModel(folder)
  const report: Record<string, unknown> = { ...describeMachine(), model: model.name, threads }
  if (positionals[0] === 'service') report['service'] = await measureService(folder, threads)
  else if (positionals.length > 0) throw new Error(`${positionals.join(' ')} is no benchmark\n${usage}`)
  else {
    const runtime = createOnnxRuntime({ threads })
    report['training'] = await measureTraining(runtime, model, { folder, threads, rounds })
    report['decoding'] = []
    for (const each of new Set([1, rows])) {
      ;(report['decoding'] as unknown[]).push(await measureDecoding(runtime, model, { rows: each, threads, rounds }))
    }
  }
  print(report)
}

interface TrainingRounds {
  readonly folder: string
  readonly threads: number
  readonly rounds: number
}

async function measureTraining(
  runtime: Runtime,
  model: Model,
  { folder, threads, rounds }: TrainingRounds,
): Promise<Record<string, unknown>> {
  const training = await openTrainingBench(runtime, model, canonicalTraining)
  const report =
    values.against === 'peft'
      ? await comparePeft(training, { folder, python: values.python, threads, rounds })
      : summarize('step', await sample(() => training.step(), rounds, 1))
  await training.dispose()
  return report
}

/** Decode steps of one round, and as many reads. */
const tokensPerRound = 16

async function measureDecoding(
  runtime: Runtime,
  model: Model,
  { rows, threads, rounds }: { rows: number; threads: number; rounds: number },
): Promise<Record<string, unknown>> {
  const bench = await openDecodingBench(runtime, model, { rows, promptLength: 32, prefixLength: 10 })
  const plain = openPlainRead(weightBytes(model), threads)
  const stepsMs: number[] = []
  const readsMs: number[] = []
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
    ratios.push(median(steps) / median(reads))
  }
  await Promise.all([bench.dispose(), plain.dispose()])
  return {
    rows,
    ...summarize('step', stepsMs),
    tokensPerSecond: (1000 * rows) / median(stepsMs),
    plainReadMs: median(readsMs),
    timesPlainReadMedian: median(ratios),
    timesPlainReadMin: Math.min(...ratios),
    timesPlainReadMax: Math.max(...ratios),
  }
}

async function sample(step: () => Promise<number>, rounds: number, warmUp: number): Promise<number[]> {
  const times: number[] = []
  for (let i = -warmUp; i < rounds; i++) {
    const ms = await step()
    if (i >= 0) times.push(ms)
  }
  return times
}

function summarize(name: string, timesMs: readonly number[]): Record<string, number> {
  return {
    [`${name}MsMedian`]: median(timesMs),
    [`${name}MsMin`]: Math.min(...timesMs),
    [`${name}sPerSecond`]: 1000 / median(timesMs),
    peakMemoryMiB: process.resourceUsage().maxRSS / 1024,
  }
}

const line = (entries: Record<string, unknown>): string =>
  Object.entries(entries)
    .map(([key, value]) => `${key} ${typeof value === 'number' ? Number(value.toPrecision(4)) : String(value)}`)
    .join('  ')

function print(report: Record<string, unknown>): void {
  if (values.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return
  }
  for (const [name, value] of Object.entries(report)) {
    const parts = Array.isArray(value) ? (value as object[]) : typeof value === 'object' ? [value as object] : []
    for (const part of parts) process.stdout.write(`${name.padEnd(9)} ${line(part as Record<string, unknown>)}\n`)
  }
  const plain = Object.fromEntries(Object.entries(report).filter(([, value]) => typeof value !== 'object'))
  process.stdout.write(`on        ${line(plain)}\n`)
}

function count(name: 'rows' | 'rounds' | 'threads'): number {
  const value = Number(values[name])
  if (!Number.isInteger(value) || value < 1 || value > 1024)
    throw new Error(`--${name} is ${values[name]}, not a number from 1 to 1024\n${usage}`)
  return value
}

function shapeName(name: string): ShapeName {
  if (name in shapes) return name as ShapeName
  throw new Error(`--shape is ${name}, known are ${Object.keys(shapes).join(' and ')}\n${usage}`)
}

if (values.help) process.stdout.write(usage)
else await run()

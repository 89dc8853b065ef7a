// Without arguments: one canonical workload, two numbers. Flags name other shapes, folders and rivals.
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openModel, type Model } from '../src/model/model.ts'
import { createOnnxRuntime } from '../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { parts, runE2e, type E2eOptions, type Part } from './e2e/e2e.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { measureAgreement } from './agreement.ts'
import { measureChoice } from './choose.ts'
import { decodedRows, decodeRivals, measureDecode } from './decode.ts'
import { openDecodingBench, openPlainRead, weightBytes } from './generate.ts'
import { describeMachine, median, type Figures } from './machine.ts'
import { comparePeft } from './peft.ts'
import { compareRealBatches } from './real-batches.ts'
import { writeReport, type Measured } from './report.ts'
import { measureTogether } from './together.ts'
import { measureService } from './service.ts'
import { shapeModel, shapes, type ShapeName } from './shape-model.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'

const usage = `npm run bench -- [service | report | e2e | choose | decode | agreement] [options]
  service                    answers of the whole service while it trains, instead of the two numbers
  report                     everything, PEFT included, into docs/benchmarks.md
  e2e                        trains on the E2E data set and writes docs/e2e.md; goes on where it was stopped; needs --data
  choose                     options that are chosen beside a grid, into docs/choice.md; goes on where it was stopped; needs --data
  decode                     decode steps in float32 and in 8 bits; --against ctranslate2,llama.cpp in turn with these, which needs --python
  agreement                  texts of 200 E2E records in 8 bits beside those in float32; needs --data
  --data FOLDER              the data set: src1_train.txt, src1_valid.txt and src1_test.txt
  --part PART                of e2e: ${parts.join(', ')} (default all; page trains nothing)
  --together N               of e2e: trainings side by side (default 4)
  --shape gpt2|gpt2-medium   seeded weights of that shape, made once
  --model DIR                a model folder (default: the model that comes with the project)
  --rows N                   rows that decode side by side, each with its own prefix (default 8)
  --rounds N                 measured rounds (default 5)
  --threads N                threads inside one operator (default: all processors)
  --precision fast           train in 8 bits, in the form that is the fastest here; or in one by its name (default float32)
  --against peft             train step by step in turn with PEFT; needs --python PATH with torch, transformers and peft
  --peft-dtype bfloat16      PEFT's (default float32)
  --json                     print for programs
`

/** Of models and weights in 8 bits that are made once and found again. */
const benchFolder = path.join(tmpdir(), 'preamble-bench')

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
    precision: { type: 'string', default: 'float32' },
    against: { type: 'string' },
    'peft-dtype': { type: 'string', default: 'float32' },
    python: { type: 'string', default: 'python3' },
    data: { type: 'string' },
    part: { type: 'string', default: 'all' },
    together: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

async function run(): Promise<void> {
  const [rows, rounds, threads] = [count('rows'), count('rounds'), count('threads')]
  const machine = describeMachine()
  const [what, ...rest] = positionals
  if (rest.length > 0 || !['service', 'report', 'e2e', 'choose', 'decode', 'agreement', undefined].includes(what))
    throw new Error(`${positionals.join(' ')} is no benchmark\n${usage}`)
  const folder = values.shape === undefined ? values.model : await shapeFolder(values.shape)
  if (what === 'e2e') await runE2e({ ...e2eOptions(), model: folder, threads })
  else if (what === 'decode') print({ decode: await decode(folder, rounds, threads), ...machine, threads })
  else if (what === 'agreement') print({ agreement: await agreement(folder, threads), ...machine, threads })
  else if (what === 'choose') {
    if (values.data === undefined) throw new Error(`choose needs --data FOLDER\n${usage}`)
    const say = (line: string): void => void process.stdout.write(`${line}\n`)
    say(`wrote ${await measureChoice(folder, values.data, threads, say)}`)
  } else if (what === 'service') print({ service: await measureService(folder, threads), ...machine, threads })
  else if (what === 'report') {
    const models = [
      await measure(folder, null, reported, { rows, threads, rounds }),
      await measure(await shapeFolder('gpt2'), 'peft', reported, { rows, threads, rounds }),
    ]
    const written = await writeReport({
      machine,
      threads,
      models,
      service: { ...(await measureService(folder, threads)) },
    })
    process.stdout.write(`wrote ${written}\n`)
  } else {
    const measured = await measure(folder, values.against ?? null, [values.precision], { rows, threads, rounds })
    print({ ...measured, ...machine, threads })
  }
}

interface Settings {
  readonly rows: number
  readonly threads: number
  readonly rounds: number
}

/** A pass over real records takes as long as many made-up steps. */
const realRoundsMax = 3
/** Trainings that are measured side by side. */
const trainingsTogether = 4

async function measure(
  folder: string,
  against: string | null,
  precisions: readonly string[],
  settings: Settings,
): Promise<Measured> {
  const { rows, threads } = settings
  const model = await openModel(folder)
  const fast = {
    folder: path.join(benchFolder, 'quantized'),
    note: (message: string) => process.stderr.write(`${message}\n`),
  }
  const runtime = createOnnxRuntime({ threads, packed: true, fast })
  const training = []
  for (const precision of precisions) {
    training.push({ ...(await measureTraining(runtime, model, folder, against, precision, settings)) })
  }
  const together = await measureTogether(runtime, model, canonicalTraining, trainingsTogether, settings.rounds)
  const decoding = []
  for (const each of new Set([1, rows]))
    decoding.push(await measureDecoding(runtime, model, { ...settings, rows: each }))
  const real = []
  if (against === 'peft') {
    const peft = {
      folder,
      python: values.python,
      dtype: values['peft-dtype'],
      threads,
      rounds: Math.min(settings.rounds, realRoundsMax),
    }
    for (const precision of precisions) real.push(await compareRealBatches(runtime, model, precision, peft))
  }
  return { model: model.name, training, real, together, decoding }
}

async function measureTraining(
  runtime: Runtime,
  model: Model,
  folder: string,
  against: string | null,
  precision: string,
  { threads, rounds }: Settings,
): Promise<Figures> {
  const training = await openTrainingBench(runtime, model, canonicalTraining, precision)
  const report =
    against === 'peft'
      ? await comparePeft(training, { folder, python: values.python, dtype: values['peft-dtype'], threads, rounds })
      : summarize('step', await sample(() => training.step(), rounds, 1))
  await training.dispose()
  return { form: training.form, ...report }
}

/** Precisions of the report. */
const reported = ['float32', 'fast']

/** Decode steps of one round, and as many reads. */
const tokensPerRound = 32

async function measureDecoding(runtime: Runtime, model: Model, { rows, threads, rounds }: Settings): Promise<Figures> {
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

/** Weights in 8 bits are kept beside models of that shape. */
function packedRuntime(threads: number): Runtime {
  const note = (message: string): void => void process.stderr.write(`${message}\n`)
  return createOnnxRuntime({ threads, packed: true, fast: { folder: path.join(benchFolder, 'quantized'), note } })
}

/** float32, and the form in 8 bits that `--precision` names or, without a name, this machine chooses. */
async function formsOf(runtime: Runtime, model: Model): Promise<readonly string[]> {
  const { precision } = values
  if (precision !== 'float32' && precision !== 'fast') return ['float32', ...precision.split(',')]
  return [...new Set(['float32', await runtime.decodingForm(model.forwardGraph(), model.weights)])]
}

async function decode(folder: string, rounds: number, threads: number): Promise<readonly Figures[]> {
  const rivals = (values.against ?? '').split(',').filter((each) => each !== '')
  const unknown = rivals.filter((each) => !decodeRivals.some((known) => known === each))
  if (unknown.length > 0) throw new Error(`--against is ${unknown.join()}, known are ${decodeRivals.join()}\n${usage}`)
  const [runtime, model] = [packedRuntime(threads), await openModel(folder)]
  const options = { folder, rounds, threads, rivals, python: values.python, forms: await formsOf(runtime, model) }
  const figures: Figures[] = []
  for (const rows of decodedRows) figures.push(...(await measureDecode(runtime, model, rows, options)))
  return figures
}

async function agreement(folder: string, threads: number): Promise<readonly Figures[]> {
  const { data } = values
  if (data === undefined) throw new Error(`agreement needs --data FOLDER\n${usage}`)
  const [runtime, model, tokenizer] = [packedRuntime(threads), await openModel(folder), await openTokenizer(folder)]
  return measureAgreement({ runtime, model, tokenizer }, data, await formsOf(runtime, model), checkpointFolder)
}

/** Beside the store of the service, and like it of no interest to others. */
const checkpointFolder = 'data/e2e'

function e2eOptions(): Omit<E2eOptions, 'model' | 'threads'> {
  const { data = null, part } = values
  if (!parts.some((each) => each === part))
    throw new Error(`--part is ${part}, known are ${parts.join(', ')}\n${usage}`)
  return { data, part: part as Part, together: count('together'), checkpoints: checkpointFolder }
}

function count(name: 'rows' | 'rounds' | 'threads' | 'together'): number {
  const value = Number(values[name])
  if (!Number.isInteger(value) || value < 1 || value > 1024)
    throw new Error(`--${name} is ${values[name]}, not a number from 1 to 1024\n${usage}`)
  return value
}

async function shapeFolder(name: string): Promise<string> {
  if (name in shapes) return shapeModel(name as ShapeName, benchFolder)
  throw new Error(`--shape is ${name}, known are ${Object.keys(shapes).join(' and ')}\n${usage}`)
}

if (values.help) process.stdout.write(usage)
else await run()

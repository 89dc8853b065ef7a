// Without arguments: one canonical workload, two numbers. Flags name other shapes, folders and rivals.
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openModel, type Model } from '../src/model/model.ts'
import { createOnnxRuntime } from '../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { parts, runE2e, type E2eOptions, type Part } from './e2e/e2e.ts'
import { measureChoice } from './choose.ts'
import { measureChoosing } from './choosing.ts'
import { measureCuda } from './cuda.ts'
import { measureGaps } from './gaps.ts'
import { benchFolder, checkpointFolder } from './folders.ts'
import { compareForms, compareTexts, packedRuntime, type FormOptions } from './decoding-forms.ts'
import { measureDecoding, sample, summarize } from './decoding-read.ts'
import { compareGeneration } from './generate-peft.ts'
import { measureLoad } from './load/load.ts'
import { describeMachine, type Figures } from './machine.ts'
import { comparePeft } from './peft.ts'
import { measurePrefixes } from './prefixes.ts'
import { compareRealBatches } from './real-batches.ts'
import { type FullReport, writeReport, type Measured } from './report.ts'
import { measureTogether } from './together.ts'
import { benchVocabulary, measureSampling } from './sampling.ts'
import { measureService } from './service.ts'
import { shapeModel, shapes, type ShapeName } from './shape-model.ts'
import { compareSources } from './sources.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'
import { usage } from './usage.ts'

const benchmarks = [
  'service',
  'serve',
  'prefixes',
  'generate',
  'decode',
  'agreement',
  'sources',
  'report',
  'e2e',
  'choose',
  'gaps',
  'sampling',
  'choosing',
]

/** Calls of one round: each takes less than a millisecond. */
const samplingRounds = 200

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shape: { type: 'string' },
    model: { type: 'string', default: 'model' },
    rows: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    precision: { type: 'string', default: 'float32' },
    against: { type: 'string' },
    runtime: { type: 'string', default: 'onnx' },
    'peft-dtype': { type: 'string', default: 'float32' },
    python: { type: 'string', default: 'python3' },
    'python-ctranslate2': { type: 'string' },
    data: { type: 'string' },
    part: { type: 'string', default: 'all' },
    together: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '120' },
    clients: { type: 'string', default: '64' },
    prefixes: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function run(): Promise<void> {
  const [rows, rounds, threads] = [count('rows', 8), count('rounds'), count('threads')]
  const machine = describeMachine()
  const [what, ...rest] = positionals
  if (rest.length > 0 || (what !== undefined && !benchmarks.includes(what)))
    throw new Error(`${positionals.join(' ')} is no benchmark\n${usage}`)
  const folder = values.shape === undefined ? values.model : await shapeFolder(values.shape)
  if (values.runtime === 'cuda') print({ ...(await onDevice(folder, rounds, threads)), ...machine, threads })
  else if (what === 'e2e') await runE2e({ ...e2eOptions(), model: folder, threads })
  else if (what === 'sampling') {
    const figures = measureSampling(await openTokenizer(folder), samplingRounds * rounds)
    for (const [name, us] of Object.entries(figures)) say(`${name.padEnd(32)} ${us.toFixed(1).padStart(8)} µs`)
    print({ vocabulary: benchVocabulary, ...machine })
  } else if (what === 'choose') {
    if (values.data === undefined) throw new Error(`choose needs --data FOLDER\n${usage}`)
    say(`wrote ${await measureChoice(folder, values.data, threads, say)}`)
  } else if (what === 'gaps') print({ ...(await gaps(folder, rows, threads)), ...machine, threads })
  else if (what === 'choosing') {
    const options = { model: await openModel(folder), folder, threads, rows: count('rows', servedRows), rounds }
    print({ choosing: await measureChoosing(options), ...machine, threads })
  } else if (what === 'serve') print({ serve: await serve(folder, threads), ...machine, threads })
  else if (what === 'prefixes') print({ prefixes: await prefixes(folder, threads, rounds), ...machine, threads })
  else if (what === 'generate' && values.against !== 'peft') throw new Error(`generate needs --against peft\n${usage}`)
  else if (what === 'generate') print({ generate: await againstPeft(folder, threads, rounds), ...machine, threads })
  else if (what === 'decode')
    print({ decode: await compareForms(formOptions(folder, rounds, threads)), ...machine, threads })
  else if (what === 'agreement')
    print({ agreement: await compareTexts(formOptions(folder, rounds, threads)), ...machine, threads })
  else if (what === 'sources') print({ ...(await besideOthers(folder, threads, rounds)), ...machine, threads })
  else if (what === 'service') print({ service: await measureService(folder, threads), ...machine, threads })
  else if (what === 'report') {
    const written = await writeReport({ machine, threads, ...(await measureAll(folder, { rows, threads, rounds })) })
    process.stdout.write(`wrote ${written}\n`)
  } else {
    const measured = await measure(folder, values.against ?? null, [values.precision], { rows, threads, rounds })
    print({ ...measured, ...machine, threads })
  }
}

/** Seconds of each measurement, and tokens of the prompts that arrive: the second is the bar, the first to compare with. */
const gapSeconds = 30
const gapPrompts = [0, 900]

async function gaps(folder: string, rows: number, threads: number): Promise<{ gaps: Figures[] }> {
  const runtime = createOnnxRuntime({ threads, packed: true })
  const model = await openModel(folder)
  const measured: Figures[] = []
  for (const promptLength of gapPrompts) {
    measured.push(await measureGaps(runtime, model, { rows, promptLength, seconds: gapSeconds }))
  }
  return { gaps: measured }
}

interface Settings {
  readonly rows: number
  readonly threads: number
  readonly rounds: number
}

/** What the report has; the default model's figures are taken with `folder`. */
async function measureAll(folder: string, settings: Settings): Promise<Omit<FullReport, 'machine' | 'threads'>> {
  const { threads, rounds } = settings
  const gpt2 = await shapeFolder('gpt2')
  return {
    models: [await measure(folder, null, reported, settings), await measure(gpt2, 'peft', reported, settings)],
    service: { ...(await measureService(folder, threads)) },
    prefixes: [...(await prefixes(folder, threads, rounds)), ...(await prefixes(gpt2, threads, rounds))],
    generation: await againstPeft(gpt2, threads, rounds),
    sources: await besideOthers(await shapeFolder('bart-base'), threads, rounds, ['peft', 'ctranslate2'], reported),
    serve: await serve(folder, threads),
  }
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
  const runtime = packedRuntime(threads)
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

/** What `decode` and `agreement` share. */
const formOptions = (folder: string, rounds: number, threads: number): FormOptions => {
  const { precision, against = '', python, data } = values
  const rows = values.rows === undefined ? null : count('rows')
  return {
    folder,
    rounds,
    threads,
    rows,
    precision,
    rivals: against.split(',').filter((each) => each !== ''),
    python,
    data,
  }
}

async function onDevice(folder: string, rounds: number, threads: number): Promise<Record<string, unknown>> {
  const libraries = (process.env['CUDA_LIBRARIES'] ?? '').split(path.delimiter).filter((each) => each !== '')
  const python = values.against === 'peft' ? values.python : null
  return measureCuda(await openModel(folder), { folder, rounds, threads, python, libraries })
}

function e2eOptions(): Omit<E2eOptions, 'model' | 'threads'> {
  const { data = null, part } = values
  if (!parts.some((each) => each === part))
    throw new Error(`--part is ${part}, known are ${parts.join(', ')}\n${usage}`)
  return { data, part: part as Part, together: count('together'), checkpoints: checkpointFolder }
}

type Counted = 'rows' | 'rounds' | 'threads' | 'together' | 'seconds' | 'clients' | 'prefixes' | 'seed'

function count(name: Counted, fallback?: number, max = 1024): number {
  const value = values[name] === undefined ? fallback : Number(values[name])
  if (value === undefined || !Number.isInteger(value) || value < 1 || value > max)
    throw new Error(`--${name} is ${values[name]}, not a number from 1 to ${max}\n${usage}`)
  return value
}

const storedMax = 100_000
const secondsMax = 24 * 60 * 60

/** Of the service, unless said otherwise. */
const servedRows = 32

async function prefixes(folder: string, threads: number, rounds: number): Promise<Figures[]> {
  const model = await openModel(folder)
  const runtime = createOnnxRuntime({ threads, packed: true })
  const counts = { prefixes: count('prefixes', 1_000, storedMax), rows: count('rows', servedRows), rounds, seed: 1 }
  return measurePrefixes(runtime, { model, folder, ...counts })
}

async function againstPeft(folder: string, threads: number, rounds: number): Promise<Figures> {
  const { python, precision, 'peft-dtype': dtype } = values
  const [runtime, model] = [packedRuntime(threads), await openModel(folder)]
  const form = precision === 'fast' ? await runtime.decodingForm(model.forwardGraph(), model.weights) : 'float32'
  const shared = { model, folder, rows: count('rows', servedRows), rounds, threads }
  return compareGeneration(runtime, { ...shared, python, dtype, form })
}

/** Of a model with an encoder; the rivals that are named. */
function besideOthers(
  folder: string,
  threads: number,
  rounds: number,
  rivals: readonly string[] = (values.against ?? '').split(','),
  precisions: readonly string[] = values.precision.split(','),
): ReturnType<typeof compareSources> {
  const { python, 'python-ctranslate2': own = python } = values
  const of = (rival: string, program: string): string | null => (rivals.includes(rival) ? program : null)
  return compareSources({
    folder,
    threads,
    rounds,
    precisions,
    peft: of('peft', python),
    ctranslate2: of('ctranslate2', own),
  })
}

/** Ends with 1 when something does not hold, but only after the figures. */
async function serve(model: string, threads: number): Promise<Figures> {
  const { figures, broken } = await measureLoad({
    model,
    threads,
    clients: count('clients'),
    prefixes: count('prefixes', 100, storedMax),
    prefixLength: 10,
    seconds: count('seconds', undefined, secondsMax),
    seed: count('seed', undefined, 2 ** 31),
    say: (line) => void process.stderr.write(`${line}\n`),
  })
  for (const each of broken) process.stderr.write(`does not hold: ${each}\n`)
  if (broken.length > 0) process.exitCode = 1
  return { ...figures, broken: broken.length }
}

async function shapeFolder(name: string): Promise<string> {
  if (name in shapes) return shapeModel(name as ShapeName, benchFolder)
  throw new Error(`--shape is ${name}, known are ${Object.keys(shapes).join(' and ')}\n${usage}`)
}

if (values.help) process.stdout.write(usage)
else await run()

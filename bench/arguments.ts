// What the benchmarks are told on the command line, read once and checked where it is asked for.
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { parts, type Part } from './e2e/e2e.ts'
import { benchFolder } from './folders.ts'
import { shapeModel, shapes, type ShapeName } from './shape-model.ts'
import { usage } from './usage.ts'

/** The one that comes with the project. */
const defaultModel = 'model'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shape: { type: 'string' },
    model: { type: 'string', default: defaultModel },
    rows: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    precision: { type: 'string' },
    against: { type: 'string', default: '' },
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
    quick: { type: 'boolean', default: false },
    'peft-device': { type: 'string', default: 'cuda' },
    write: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

export const { json, help, python, quick, runtime: runtimeName, shape: shapeNamed } = values
if (quick && values.write) throw new Error('figures of --quick mean nothing: they do not go into the page')
export const { write, model } = values
export const peftDtype = values['peft-dtype']
export const peftDevice = values['peft-device']
export const pythonCtranslate2 = values['python-ctranslate2'] ?? values.python
export const words: readonly string[] = positionals
export const rivals: readonly string[] = values.against.split(',').filter((each) => each !== '')

const limits = {
  rows: 1024,
  rounds: 1024,
  threads: 1024,
  together: 1024,
  clients: 1024,
  seconds: 24 * 60 * 60,
  prefixes: 100_000,
  seed: 2 ** 31,
} as const

export function count(name: keyof typeof limits, fallback?: number): number {
  const value = values[name] === undefined ? fallback : Number(values[name])
  const max = limits[name]
  if (value === undefined || !Number.isInteger(value) || value < 1 || value > max)
    throw new Error(`--${name} is ${values[name]}, not a number from 1 to ${max}\n${usage}`)
  return value
}

/** null: as many as the benchmark is usually taken with. */
export const rowsOrNull = (): number | null => (values.rows === undefined ? null : count('rows'))

export const precision = (fallback: string): string => values.precision ?? fallback

export const dataIfNamed: string | null = values.data ?? null

export function data(command: string): string {
  if (values.data === undefined) throw new Error(`${command} needs --data FOLDER\n${usage}`)
  return values.data
}

export function part(): Part {
  const known = parts.find((each) => each === values.part)
  if (known === undefined) throw new Error(`--part is ${values.part}, known are ${parts.join(', ')}\n${usage}`)
  return known
}

/** A folder named with --model, or one with seeded weights of the shape. */
export function modelFolder(shape: string | undefined = values.shape): Promise<string> {
  if (shape === undefined) return Promise.resolve(values.model)
  if (shape in shapes) return shapeModel(shape as ShapeName, benchFolder)
  throw new Error(`--shape is ${shape}, known are ${Object.keys(shapes).join(' and ')}\n${usage}`)
}

/** What a GPU is measured with: GPT-2's shape, where neither a shape nor a folder is named. */
export const deviceModelFolder = (): Promise<string> =>
  modelFolder(values.shape ?? (quick ? 'tiny' : values.model === defaultModel ? 'gpt2' : undefined))

/** Looked through for NVIDIA's libraries first. */
export const cudaLibraries = (): readonly string[] =>
  (process.env['CUDA_LIBRARIES'] ?? '').split(path.delimiter).filter((each) => each !== '')

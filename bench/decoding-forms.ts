// Decoding in 8 bits beside float32: how fast, also beside engines that serve no prefix, and whether the texts are the same.
import path from 'node:path'
import { openModel, type Model } from '../src/model/model.ts'
import { createOnnxRuntime, type OnnxOptions } from '../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { measureAgreement } from './agreement.ts'
import { decodedRows, decodeRivals, measureDecode } from './decode.ts'
import { measureDrafts, e2eTask, recordsOf } from './drafts.ts'
import { measureDraftTurns, scriptsFor, writeScripts } from './draft-turns.ts'
import { benchFolder, checkpointFolder } from './folders.ts'
import type { Figures } from './machine.ts'
import { usage } from './usage.ts'

export interface FormOptions {
  readonly folder: string
  readonly rounds: number
  readonly threads: number
  /** null: 1, 8 and 32. */
  readonly rows: number | null
  /** `fast`, `float32`, or forms by their names. */
  readonly precision: string
  readonly rivals: readonly string[]
  readonly python: string
}

/** Weights in 8 bits are kept beside models of that shape. */
export function packedRuntime(threads: number, watch?: OnnxOptions['watch']): Runtime {
  const note = (message: string): void => void process.stderr.write(`${message}\n`)
  const fast = { folder: path.join(benchFolder, 'quantized'), note }
  return createOnnxRuntime({ threads, packed: true, fast, ...(watch && { watch }) })
}

/** float32, and the forms in 8 bits that `precision` names or, without a name, the one that this machine chooses. */
async function formsOf(runtime: Runtime, model: Model, precision: string): Promise<readonly string[]> {
  if (precision !== 'float32' && precision !== 'fast') return ['float32', ...precision.split(',')]
  return [...new Set(['float32', await runtime.decodingForm(model.forwardGraph(), model.weights)])]
}

export async function compareForms(options: FormOptions): Promise<readonly Figures[]> {
  const { folder, threads, rivals } = options
  checkRivals(rivals)
  const [runtime, model] = [packedRuntime(threads), await openModel(folder)]
  const forms = await formsOf(runtime, model, options.precision)
  const figures: Figures[] = []
  for (const rows of options.rows === null ? decodedRows : [options.rows])
    figures.push(...(await measureDecode(runtime, model, rows, { ...options, forms })))
  return figures
}

export async function compareTexts(
  { folder, threads, precision }: FormOptions,
  data: string,
): Promise<readonly Figures[]> {
  const [runtime, model, tokenizer] = [packedRuntime(threads), await openModel(folder), await openTokenizer(folder)]
  const forms = await formsOf(runtime, model, precision)
  return measureAgreement({ runtime, model, tokenizer }, data, forms, checkpointFolder)
}

/** Of rows whose texts are made at once. */
const draftedRows = [1, 4, 8] as const

/** The default model's texts with drafts and without, and in the shape at `shapeFolder` beside the rivals. */
export async function compareDrafts(
  options: FormOptions,
  shapeFolder: string,
  data: string,
): Promise<{ readonly texts: readonly Figures[]; readonly shape: readonly Figures[] }> {
  const { folder, threads, rounds, rivals } = options
  checkRivals(rivals)
  const [runtime, model, tokenizer] = [packedRuntime(threads), await openModel(folder), await openTokenizer(folder)]
  const parts = { runtime, model, tokenizer }
  const forms = options.precision.split(',')
  const rows = options.rows === null ? draftedRows : [options.rows]
  const inputs = Math.max(recordsOf(rounds), ...rows.map((each) => scriptsFor(each, rounds)))
  const task = await e2eTask(parts, data, inputs, checkpointFolder)
  const texts = await measureDrafts(parts, task, { forms, atOnce: rows, rounds })
  const scripts = await writeScripts(parts, task)
  const shaped = { runtime, model: await openModel(shapeFolder), tokenizer, task, scripts }
  const shape: Figures[] = []
  for (const each of rows)
    shape.push(...(await measureDraftTurns(shaped, each, { ...options, folder: shapeFolder, forms })))
  return { texts, shape }
}

function checkRivals(rivals: readonly string[]): void {
  const unknown = rivals.filter((each) => !decodeRivals.some((known) => known === each))
  if (unknown.length > 0) throw new Error(`--against is ${unknown.join()}, known are ${decodeRivals.join()}\n${usage}`)
}

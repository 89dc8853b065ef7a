// Measures the machine for serving: in which form products of one and of a few rows take the least time, or of many.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Program } from '../runtime.ts'
import { wordsProblem } from '../avx2/available.ts'
import type { ServingForm } from './forms.ts'
import { isExact } from './measure.ts'
import { openLayers, randomLayers, rowsOf, settleMs, timeByTurns, type LayerShape } from './measured-layers.ts'

/** Those that keep weights as near as 8 bits allow: with 7 bits one greedy text in four comes out another. */
export const decodingForms: readonly ServingForm[] = ['words', 'float32', 'blocks', 'signed', 'unsigned']
/** A product of many rows is bound by how fast it multiplies, and what is read of a source goes through no head: pairs may pay here. */
export const readingForms: readonly ServingForm[] = [...decodingForms, 'paired']

/** Rows that decode side by side: alone, a few, as many as a service has by default. */
export const decodedRows: readonly number[] = [1, 8, 32]
/** Positions of what an encoder reads at once, about. */
export const readRows: readonly number[] = [512]
/** One after the other, as in an encoder: a single one is over before what else the machine does evens out. */
export const readLayers = 4
/** Weights of the measured layers in float32: in 8 bits still more than caches hold, so that reading them is a part of the time, as it is in a model. */
const weightBytesMax = 96 * 1024 ** 2
const rounds = 7
/** A form must be at least so many times as fast as float32 for its error to be worth it. */
export const gainMin = 1.1

export interface DecodingTiming {
  readonly form: ServingForm
  /** The least of some rounds, one for each count of rows. */
  readonly ms: readonly number[]
}

/** Which forms are compared, and for how many rows. */
export interface Compared {
  readonly forms: readonly ServingForm[]
  readonly counts: readonly number[]
}

/** Whether this machine computes it, and rightly. */
export async function isUsable(form: ServingForm, threads: number): Promise<boolean> {
  return form === 'words' ? (await wordsProblem()) === null : isExact(form, threads)
}

export const decoded: Compared = { forms: decodingForms, counts: decodedRows }
export const read: Compared = { forms: readingForms, counts: readRows }

export interface Fastest {
  readonly form: ServingForm
  /** How many times as fast as float32. */
  readonly gain: number
  readonly timings: readonly DecodingTiming[]
}

/** The form with the least geometric mean over the counts of rows, all of them measured by turns on `layers` layers of that shape. */
export async function fastestDecodingForm(
  shape: LayerShape,
  layers: number,
  threads: number,
  { forms, counts }: Compared = decoded,
): Promise<Fastest> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-measure-'))
  const programs = new Map<ServingForm, Program>()
  try {
    const fitting = Math.max(1, Math.floor(weightBytesMax / (4 * shape[0] * shape[1])))
    const weights = await randomLayers(shape, Math.min(layers, fitting), folder)
    for (const form of forms) {
      if (await isUsable(form, threads))
        programs.set(form, await openLayers(shape, weights, form, { threads, packed: true }))
    }
    const pauseMs = programs.has('words') ? settleMs : 0
    const least: ReadonlyMap<ServingForm, number>[] = []
    for (const count of counts) least.push(await timeByTurns(programs, rowsOf(shape, count), rounds, pauseMs))
    const timings = [...programs.keys()].map((form) => ({ form, ms: least.map((ms) => ms.get(form) as number) }))
    const cost = ({ ms }: DecodingTiming): number => ms.reduce((sum, each) => sum + Math.log(each), 0) / ms.length
    const plain = timings.find(({ form }) => form === 'float32') as DecodingTiming
    const best = timings.reduce((a, b) => (cost(b) < cost(a) ? b : a))
    const gain = Math.exp(cost(plain) - cost(best))
    return gain > gainMin ? { form: best.form, gain, timings } : { form: 'float32', gain: 1, timings }
  } finally {
    for (const program of programs.values()) await program.dispose()
    await rm(folder, { recursive: true, force: true })
  }
}

export const describeDecoding = (timings: readonly DecodingTiming[], counts: readonly number[] = decodedRows): string =>
  `${timings.map(({ form, ms }) => `${form} ${ms.map((each) => each.toFixed(2)).join(', ')} ms`).join('; ')} for ${counts.join(', ')} rows`

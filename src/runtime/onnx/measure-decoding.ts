// Measures the machine for decoding: in which form products of one and of a few rows take the least time.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { GraphBuilder } from '../../graph/builder.ts'
import { makeGraph } from '../../graph/graph.ts'
import { Random } from '../../random/random.ts'
import { float32, int32 } from '../../tensor/tensor.ts'
import type { Weight, Weights } from '../../tensor/weights.ts'
import type { Program } from '../runtime.ts'
import { frozenProducts, type LinearForm } from './forms.ts'
import { lower } from './lower.ts'
import { isExact, type LayerShape } from './measure.ts'
import { OnnxProgram } from './program.ts'
import { withQuantized } from './quantized-weights.ts'

/** Those that keep weights as near as 8 bits allow: with 7 bits one greedy text in four comes out another. */
export const decodingForms: readonly LinearForm[] = ['float32', 'blocks', 'signed', 'unsigned']

/** Rows that decode side by side: alone, a few, as many as a service has by default. */
const measuredRows = [1, 8, 32] as const
/** Weights of the measured layers: more than caches hold, so that reading them is a part of the time, as it is in a model. */
const weightBytesMax = 96 * 1024 ** 2
const rounds = 9
/** A form must be at least so many times as fast as float32 for its error to be worth it. */
const gainMin = 1.1

export interface DecodingTiming {
  readonly form: LinearForm
  /** Medians, one for each number of rows. */
  readonly ms: readonly number[]
}

/** The form with the least geometric mean over `measuredRows`, all of them measured by turns on `layers` layers of that shape. */
export async function fastestDecodingForm(
  shape: LayerShape,
  layers: number,
  threads: number,
): Promise<{ readonly form: LinearForm; readonly timings: readonly DecodingTiming[] }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-measure-'))
  const programs = new Map<LinearForm, Program>()
  try {
    const fitting = Math.max(1, Math.floor(weightBytesMax / (4 * shape[0] * shape[1])))
    const weights = await randomLayers(shape, Math.min(layers, fitting), folder)
    for (const form of decodingForms) {
      if (await isExact(form, threads)) programs.set(form, await openLayers(shape, weights, form, threads, folder))
    }
    const timings = await timeByTurns(programs, shape)
    const cost = ({ ms }: DecodingTiming): number => ms.reduce((sum, each) => sum + Math.log(each), 0) / ms.length
    const plain = timings.find(({ form }) => form === 'float32') as DecodingTiming
    const best = timings.reduce((a, b) => (cost(b) < cost(a) ? b : a))
    const isWorthIt = cost(best) < cost(plain) - Math.log(gainMin)
    return { form: isWorthIt ? best.form : 'float32', timings }
  } finally {
    for (const program of programs.values()) await program.dispose()
    await rm(folder, { recursive: true, force: true })
  }
}

/** All of them lie at the same place on disk; packed, each has memory of its own. */
async function randomLayers([rows, columns]: LayerShape, layers: number, folder: string): Promise<Weights> {
  const random = new Random(1)
  // Small enough that activations neither grow nor vanish on their way through the layers.
  const spread = Math.sqrt(12 / Math.sqrt(rows * columns))
  const data = Float32Array.from({ length: rows * columns }, () => spread * (random.next() - 0.5))
  await writeFile(path.join(folder, 'layer.bin'), new Uint8Array(data.buffer))
  const tensors = new Map<string, Weight>()
  for (let l = 0; l < layers; l++) {
    const layer = {
      name: `layer.${l}`,
      dtype: 'float32',
      shape: [rows, columns],
      file: 'layer.bin',
      offset: 0,
    } as const
    tensors.set(layer.name, { ...layer, bytes: data.byteLength })
  }
  return { folder, sha256: 'measured', tensors }
}

/** There and back again through each layer; one row comes out, so that no time goes into copying. */
async function openLayers(
  [rows, columns]: LayerShape,
  weights: Weights,
  form: LinearForm,
  threads: number,
  folder: string,
): Promise<Program> {
  const g = new GraphBuilder()
  let x = g.input('x', ['R', rows])
  for (const name of weights.tensors.keys()) {
    const w = g.weight(name, [rows, columns])
    x = g.linear(g.linear(x, w, null), w, null, { transposed: true })
  }
  const graph = makeGraph({ row: g.gather(x, g.input('at', [1], 'int32')) })
  const all = form === 'float32' ? weights : await withQuantized(weights, frozenProducts(graph, form), form, folder)
  return OnnxProgram.open(lower(graph, all, form), all.folder, { threads, packed: true })
}

async function timeByTurns(
  programs: ReadonlyMap<LinearForm, Program>,
  [width]: LayerShape,
): Promise<readonly DecodingTiming[]> {
  const random = new Random(2)
  const times = new Map([...programs.keys()].map((form) => [form, measuredRows.map(() => [] as number[])]))
  for (const [i, count] of measuredRows.entries()) {
    const x = Float32Array.from({ length: count * width }, () => random.next() - 0.5)
    const feeds = { x: float32(x, [count, width]), at: int32(Int32Array.of(0), [1]) }
    for (let round = -1; round < rounds; round++) {
      for (const [form, program] of programs) {
        // The first run of a turn meets threads of the program before, which spin for a while.
        await program.run(feeds)
        const startMs = performance.now()
        await program.run(feeds)
        if (round >= 0) times.get(form)?.[i]?.push(performance.now() - startMs)
      }
    }
  }
  const middle = (ms: readonly number[]): number => ms.toSorted((a, b) => a - b)[rounds >> 1] as number
  return [...times].map(([form, ms]) => ({ form, ms: ms.map(middle) }))
}

export const describeDecoding = (timings: readonly DecodingTiming[]): string =>
  `${timings.map(({ form, ms }) => `${form} ${ms.map((each) => each.toFixed(2)).join(', ')} ms`).join('; ')} for ${measuredRows.join(', ')} rows`

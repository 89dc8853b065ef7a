// Frozen layers with random weights, to be timed in one form after the other.
import { appendFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { GraphBuilder } from '../../graph/builder.ts'
import { makeGraph } from '../../graph/graph.ts'
import { Random } from '../../random/random.ts'
import { float32, int32 } from '../../tensor/tensor.ts'
import type { Weight, Weights } from '../../tensor/weights.ts'
import type { Feeds, Program } from '../runtime.ts'
import { Avx2Program } from '../avx2/program.ts'
import { LoadedWeights } from '../avx2/weights.ts'
import { frozenProducts, type ServingForm } from './forms.ts'
import { lower } from './lower.ts'
import { OnnxProgram, type SessionOptions } from './program.ts'
import { withQuantized } from './quantized-weights.ts'

export type LayerShape = readonly [rows: number, columns: number]

/** The same numbers for all, each with a place of its own on disk: onnxruntime shares what lies at the same one, and that stays in the caches. */
export async function randomLayers([rows, columns]: LayerShape, layers: number, folder: string): Promise<Weights> {
  const random = new Random(1)
  // Small enough that activations neither grow nor vanish on their way through the layers.
  const spread = Math.sqrt(12 / Math.sqrt(rows * columns))
  const data = Float32Array.from({ length: rows * columns }, () => spread * (random.next() - 0.5))
  const bytes = data.byteLength
  const tensors = new Map<string, Weight>()
  for (let l = 0; l < layers; l++) {
    const name = `layer.${l}`
    await appendFile(path.join(folder, 'layer.bin'), new Uint8Array(data.buffer))
    tensors.set(name, { name, dtype: 'float32', shape: [rows, columns], file: 'layer.bin', offset: l * bytes, bytes })
  }
  return { folder, sha256: 'measured', tensors }
}

/** There and back again through each, as forward and backward pass do it; one row comes out, so that no time goes into copying. */
export async function openLayers(
  [rows, columns]: LayerShape,
  weights: Weights,
  form: ServingForm,
  options: SessionOptions,
): Promise<Program> {
  const g = new GraphBuilder()
  let x = g.input('x', ['R', rows])
  for (const name of weights.tensors.keys()) {
    const w = g.weight(name, [rows, columns])
    x = g.linear(g.linear(x, w, null), w, null, { transposed: true })
  }
  const graph = makeGraph({ row: g.gather(x, g.input('at', [1], 'int32')) })
  if (form === 'words') return new Avx2Program(graph, LoadedWeights.from(weights), options)
  const { folder } = weights
  const all = form === 'float32' ? weights : await withQuantized(weights, frozenProducts(graph, form), form, folder)
  return OnnxProgram.open(lower(graph, all, { form }), all.folder, options)
}

/** So many random rows for `openLayers`. */
export function rowsOf([width]: LayerShape, count: number): Feeds {
  const random = new Random(2)
  const x = Float32Array.from({ length: count * width }, () => random.next() - 0.5)
  return { x: float32(x, [count, width]), at: int32(Int32Array.of(0), [1]) }
}

/** For threads of onnxruntime, which spin for a while after a run, in the way of a program that does not use them: such go first in a round. */
export const settleMs = 50

/** The least time of `rounds` runs of each program, in ms: whatever else the machine does only adds to it. */
export async function timeByTurns<Name>(
  programs: ReadonlyMap<Name, Program>,
  feeds: Feeds,
  rounds: number,
  /** Before each round. */
  pauseMs = 0,
): Promise<ReadonlyMap<Name, number>> {
  const times = new Map([...programs.keys()].map((name) => [name, [] as number[]]))
  for (let round = -1; round < rounds; round++) {
    if (pauseMs > 0) await setTimeout(pauseMs)
    for (const [name, program] of programs) {
      // The first run of a turn meets threads of the program before, which spin for a while.
      await program.run(feeds)
      const startMs = performance.now()
      await program.run(feeds)
      if (round >= 0) times.get(name)?.push(performance.now() - startMs)
    }
  }
  return new Map([...times].map(([name, ms]) => [name, Math.min(...ms)]))
}

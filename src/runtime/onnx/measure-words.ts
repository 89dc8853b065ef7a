// Measures a model's own decode steps in words beside float32: layers alone would not show what everything between them costs.
import { inputsOf, type Graph } from '../../graph/graph.ts'
import { bindShape } from '../../graph/shape.ts'
import { float32, int32, sizeOf, type Tensor } from '../../tensor/tensor.ts'
import type { Feeds, Program } from '../runtime.ts'
import { settleMs, timeByTurns } from './measured-layers.ts'
import { decodedRows } from './measure-decoding.ts'

/** Positions that each row looks back on. */
const pastLength = 64
const rounds = 7

/** How many times as fast steps of a few rows are in words, as a geometric mean over the counts of rows. `forward` is what both programs compute. */
export async function gainOfWords(forward: Graph, words: Program, plain: Program): Promise<number> {
  // Threads of onnxruntime spin after a run: words go first.
  const programs = new Map([
    ['words', words],
    ['float32', plain],
  ])
  let logs = 0
  for (const count of decodedRows) {
    const least = await timeByTurns(programs, stepFeeds(forward, count), rounds, settleMs)
    logs += Math.log((least.get('float32') as number) / (least.get('words') as number))
  }
  return Math.exp(logs / decodedRows.length)
}

/** One token for each of `count` rows, all in the first segment. */
function stepFeeds(forward: Graph, count: number): Feeds {
  const inputs = inputsOf(forward).map(({ attributes }) => attributes)
  const bindings = new Map<string, number>([['R', count]])
  for (const name of inputs.flatMap(({ shape }) => shape)) {
    if (typeof name !== 'string' || name === 'R') continue
    const [kind, segment] = [name[0], name.slice(1)]
    const isFirst = segment === '' || segment === '0'
    bindings.set(name, kind === 'B' ? (isFirst ? count : 0) : kind === 'T' ? 1 : isFirst ? pastLength : 1)
  }
  return Object.fromEntries(
    inputs.map(({ name, shape, dtype }): [string, Tensor] => {
      const extents = bindShape(shape, bindings)
      if (dtype === 'float32') return [name, float32(new Float32Array(sizeOf(extents)), extents)]
      const fill = name.endsWith('Lengths') ? pastLength / 2 : 1
      const data = new Int32Array(sizeOf(extents)).map((_, i) => (name === 'rows' ? i : fill))
      return [name, int32(data, extents)]
    }),
  )
}

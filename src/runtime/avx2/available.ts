// Whether this machine can compute by code of our own: a processor with the instructions, a system that lets us bring code, and right sums.
import { readFileSync } from 'node:fs'
import { GraphBuilder } from '../../graph/builder.ts'
import { makeGraph } from '../../graph/graph.ts'
import { Random } from '../../random/random.ts'
import { float32 } from '../../tensor/tensor.ts'
import { Avx2Program } from './program.ts'
import { LoadedWeights, type ProductForm } from './weights.ts'

/** As Linux names them. */
const instructions = ['avx2', 'fma']

/** Of the first processor in the text of /proc/cpuinfo. */
export const flagsOf = (cpuInfo: string): ReadonlySet<string> =>
  new Set(/^flags\s*:(.*)$/m.exec(cpuInfo)?.[1]?.trim().split(/\s+/))

/** Throws where there is none: what is not Linux. */
export const processorFlags = (): ReadonlySet<string> => flagsOf(readFileSync('/proc/cpuinfo', 'utf8'))

/** Rows, inputs and columns that fill whole tiles, blocks and panels and leave a rest. */
const probe = { rows: 19, inner: 592, columns: 37 } as const
const tolerance = 1e-5

let found: Promise<string | null> | null = null

/** Why not; null: it can. Found out once in a process. */
export function wordsProblem(): Promise<string | null> {
  found ??= findProblem()
  return found
}

async function findProblem(): Promise<string | null> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'there is code for x86-64 on Linux alone'
  try {
    const flags = processorFlags()
    const missing = instructions.filter((each) => !flags.has(each))
    if (missing.length > 0) return `the processor lacks ${missing.join(' and ')}`
    return (await wrongSums('words')) ?? (await wrongSums('float32'))
  } catch (error) {
    return (error as Error).message
  }
}

/** Half of the rows and columns are as large as can be and of one sign, so that their sums are the largest that integers must hold. */
async function wrongSums(form: ProductForm): Promise<string | null> {
  const { rows, inner, columns } = probe
  const random = new Random(3)
  const numbers = (count: number, width: number): Float32Array =>
    Float32Array.from({ length: count * width }, (_, i) =>
      Math.floor(i / width) % 2 === 0 ? 1 : random.next() < 0.5 ? -1 : 1,
    )
  const [x, w] = [numbers(rows, inner), numbers(columns, inner)]
  const g = new GraphBuilder()
  const product = g.linear(g.input('x', ['R', inner]), g.weight('w', [columns, inner]), null, { transposed: true })
  const graph = makeGraph({ y: product })
  const weights = LoadedWeights.of({ w: { data: w, shape: [columns, inner] } })
  const program = new Avx2Program(graph, weights, { threads: 1, form })
  try {
    const y = (await program.run({ x: float32(x, [rows, inner]) }))['y']?.data
    for (let i = 0; i < rows * columns; i++) {
      const [row, column] = [Math.floor(i / columns) * inner, (i % columns) * inner]
      let sum = 0
      for (let k = 0; k < inner; k++) sum += (x[row + k] as number) * (w[column + k] as number)
      if (!(Math.abs((y?.[i] as number) - sum) <= tolerance * inner))
        return `a sum in ${form} is ${y?.[i]} instead of ${sum}`
    }
    return null
  } finally {
    await program.dispose()
  }
}

// Small graphs with random numbers, run by our machine code and by the reference.
import assert from 'node:assert/strict'
import type { Graph } from '../../../src/graph/graph.ts'
import type { Random } from '../../../src/random/random.ts'
import { wordsProblem } from '../../../src/runtime/avx2/available.ts'
import { Avx2Program, type Avx2Options } from '../../../src/runtime/avx2/program.ts'
import { LoadedWeights, type Numbers } from '../../../src/runtime/avx2/weights.ts'
import { evaluate } from '../../../src/runtime/reference/reference.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import { float32, int32, sizeOf, type Tensor, type TensorData } from '../../../src/tensor/tensor.ts'

/** For `test`: false, or why this machine cannot run our code. */
export const skip: false | string = (await wordsProblem()) ?? false

/** Printed with every failure; SEED=… takes it back. */
export const seed = Number(process.env['SEED'] ?? 7)

export type NamedNumbers = Readonly<Record<string, Numbers>>
export type Outputs = Readonly<Record<string, TensorData>>

export type Float32Tensor = Tensor & { readonly data: Float32Array }

export function normal(random: Random, shape: readonly number[], factor = 1): Float32Tensor {
  const data = Float32Array.from({ length: sizeOf(shape) }, () => factor * random.normal())
  return { dtype: 'float32', shape, data }
}

export const integers = (...numbers: readonly number[]): Tensor => int32(Int32Array.from(numbers), [numbers.length])

export function open(graph: Graph, weights: NamedNumbers = {}, options: Partial<Avx2Options> = {}): Avx2Program {
  return new Avx2Program(graph, LoadedWeights.of(weights), { threads: 1, ...options })
}

/** Copies: the next run overwrites what a run answers. */
export async function runOnce(program: Avx2Program, feeds: Feeds): Promise<Outputs> {
  const outputs = await program.run(feeds)
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data.slice()]))
}

export function reference(graph: Graph, feeds: Feeds, weights: NamedNumbers = {}): Outputs {
  const wide = new Map(Object.entries(weights).map(([name, { data }]) => [name, Float64Array.from(data)]))
  const outputs = Object.entries(evaluate(graph, feeds, wide))
  return Object.fromEntries(outputs.map(([name, { data }]) => [name, data]))
}

/** A graph's outputs by our code and by the reference. */
export async function runBoth(
  graph: Graph,
  feeds: Feeds,
  weights: NamedNumbers = {},
  options: Partial<Avx2Options> = {},
): Promise<{ readonly got: Outputs; readonly expected: Outputs }> {
  const program = open(graph, weights, options)
  const got = await runOnce(program, feeds)
  await program.dispose()
  return { got, expected: reference(graph, feeds, weights) }
}

/** Every number no further off than `bound` of its place. */
export function assertNear(
  what: string,
  got: TensorData | undefined,
  expected: TensorData | undefined,
  bound: (i: number) => number,
): void {
  assert.ok(got !== undefined && expected !== undefined && got.length === expected.length, what)
  expected.forEach((value, i) => {
    const error = Math.abs((got[i] as number) - value)
    assert.ok(error <= bound(i), `${what}[${i}]: ${got[i]} instead of ${value}, off by ${error}, SEED=${seed}`)
  })
}

/** The same numbers to the bit, zeros of both signs apart. */
export function assertSame(what: string, got: TensorData | undefined, expected: TensorData | undefined): void {
  assert.ok(got !== undefined && expected !== undefined && got.length === expected.length, what)
  const unlike = expected.findIndex((value, i) => !Object.is(Math.fround(value), got[i]))
  assert.equal(unlike, -1, `${what}[${unlike}]: ${got[unlike]} instead of ${expected[unlike]}, SEED=${seed}`)
}

/** Rows of a float32 tensor from `first` on. */
export function rowsOf({ data, shape }: Tensor, first: number, count: number): Tensor {
  const width = sizeOf(shape.slice(1))
  return float32(Float32Array.from(data.subarray(first * width, (first + count) * width)), [count, ...shape.slice(1)])
}

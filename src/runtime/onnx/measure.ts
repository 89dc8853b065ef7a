// Measures the machine: whether its integer products are exact, and which form of a frozen layer is the fastest.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Random } from '../../random/random.ts'
import { int32, type Tensor } from '../../tensor/tensor.ts'
import type { Program } from '../runtime.ts'
import {
  integersOf,
  quantizedForms,
  stepsOf,
  unsignedZero,
  zeroOf,
  type IntegerBytes,
  type LinearForm,
} from './forms.ts'
import { openLayers, randomLayers, rowsOf, timeByTurns, type LayerShape } from './measured-layers.ts'
import { OnnxProgram } from './program.ts'
import { elementTypes, encodeModel, type NodeProto, type TensorProto, type ValueInfoProto } from './schema.ts'

export interface Timing {
  readonly form: LinearForm
  /** Of the layer forward and backward, the least of some rounds; null where the form is inexact on this machine. */
  readonly ms: number | null
}

/** Rows of the measured input: about those of a batch of 10 examples. */
const measuredRows = 512
const rounds = 15
/** A form must be at least so many times as fast as float32 for its error to be worth it. */
const gainMin = 1.1
/** What trainings were measured in; the losses of `paired` are not known. */
const trainingForms = quantizedForms.filter((form) => form !== 'paired')

/** The fastest form for a layer of that shape, all forms measured by turns. */
export async function fastestForm(
  shape: LayerShape,
  threads: number,
): Promise<{ readonly form: LinearForm; readonly timings: readonly Timing[] }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-measure-'))
  const programs = new Map<LinearForm, Program>()
  try {
    const weights = await randomLayers(shape, 1, folder)
    for (const form of ['float32', ...trainingForms] as const) {
      if (await isExact(form, threads))
        programs.set(form, await openLayers(shape, weights, form, { threads, packed: true }))
    }
    const least = await timeByTurns(programs, rowsOf(shape, measuredRows), rounds)
    const plain = least.get('float32') as number
    let [form, best] = ['float32' as LinearForm, plain / gainMin]
    for (const [each, ms] of least) if (ms < best) [form, best] = [each, ms]
    const timings = ['float32' as const, ...trainingForms].map((each) => ({
      form: each,
      ms: least.get(each) ?? null,
    }))
    return { form, timings }
  } finally {
    for (const program of programs.values()) await program.dispose()
    await rm(folder, { recursive: true, force: true })
  }
}

const exactness = new Map<IntegerBytes, Promise<boolean>>()

/**
 * Whether the integer products of a form are exact on this machine. Kernels for processors without VNNI may add pairs of
 * products in 16 bits, where 2 · 255 · 127 does not fit: such a sum is cut off without a word.
 */
export async function isExact(form: LinearForm, threads: number): Promise<boolean> {
  for (const bytes of integersOf(form)) if (!(await areExact(bytes, threads))) return false
  return true
}

function areExact(bytes: IntegerBytes, threads: number): Promise<boolean> {
  const earlier = exactness.get(bytes)
  if (earlier !== undefined) return earlier
  const checked = checkProducts(bytes, threads)
  exactness.set(bytes, checked)
  return checked
}

/** Rows, depth and columns that fill whole tiles of a kernel and leave a rest; a single row has a kernel of its own. */
const probe = { M: 37, K: 203, N: 67 } as const

async function checkProducts(bytes: IntegerBytes, threads: number): Promise<boolean> {
  const { M, K } = probe
  const random = new Random(3)
  const byte = (): number => Math.floor(random.next() * 256)
  // Half of the rows and columns are as large as can be: their sums are the ones that saturate.
  const left = Int32Array.from({ length: M * K }, (_, i) => (Math.floor(i / K) % 2 === 0 ? 255 : byte()))
  const right = largeWeights(bytes, random)
  const expected = integerProduct(left, right)
  for (const packed of [false, true]) {
    const program = await OnnxProgram.open(productModel(bytes, right), tmpdir(), { threads, packed })
    const outputs: (Tensor | undefined)[] = []
    for (const rows of [1, M])
      outputs.push((await program.run({ x: int32(left.subarray(0, rows * K), [rows, K]) }))['y'])
    await program.dispose()
    // The first row is the same in both.
    if (!outputs.every((y) => y?.data.every((value, i) => value === expected[i]))) return false
  }
  return true
}

/** [K, N]: every other column as large as the bytes allow, the rest random. */
function largeWeights(bytes: IntegerBytes, random: Random): Int32Array {
  const { K, N } = probe
  const steps = stepsOf(bytes)
  const right = new Int32Array(K * N)
  for (let j = 0; j < N; j++) {
    for (let k = 0; k < K; k++) {
      const before = Math.abs(k % 2 === 1 ? (right[(k - 1) * N + j] as number) : 0)
      // In pairs a first one of any size, and a second one that fills the pair.
      const most =
        bytes !== 'paired' ? steps : k % 2 === 1 ? Math.min(steps, steps + 1 - before) : 1 + random.below(steps)
      right[k * N + j] = j % 2 === 0 ? most : Math.round((2 * random.next() - 1) * most)
    }
  }
  return right
}

/** (x − 128) · right in whole numbers, each below 2²⁴ and so exact in float32. */
function integerProduct(left: Int32Array, right: Int32Array): number[] {
  const { M, K, N } = probe
  return Array.from({ length: M * N }, (_, i) => {
    const [row, column] = [Math.floor(i / N), i % N]
    let sum = 0
    for (let k = 0; k < K; k++)
      sum += ((left[row * K + k] as number) - unsignedZero) * (right[k * N + column] as number)
    return sum
  })
}

/** The node that `lower-linear.ts` makes, over bytes given as int32. */
function productModel(bytes: IntegerBytes, right: Int32Array): Uint8Array {
  const { K, N } = probe
  const { float32: float, uint8, int8, int32: integer } = elementTypes
  const isSigned = zeroOf(bytes) === 0
  const stored = [...right].map((value) => value + zeroOf(bytes))
  const initializer: TensorProto[] = [
    { name: 'w', dims: [K, N], dataType: isSigned ? int8 : uint8, int32Data: stored },
    { name: 'one', dims: [], dataType: float, floatData: [1] },
    { name: 'ones', dims: [N], dataType: float, floatData: Array.from({ length: N }, () => 1) },
    { name: 'zero', dims: [], dataType: uint8, int32Data: [unsignedZero] },
  ]
  const inputs = ['bytes', 'w', 'one', 'ones', 'zero', ...(isSigned ? [] : ['zero'])]
  const node: NodeProto[] = [
    { opType: 'Cast', domain: '', input: ['x'], output: ['bytes'], attribute: [{ name: 'to', type: 'INT', i: uint8 }] },
    { opType: 'MatMulIntegerToFloat', domain: 'com.microsoft', input: inputs, output: ['y'], attribute: [] },
  ]
  const matrix = (name: string, elemType: number, columns: number): ValueInfoProto => ({
    name,
    type: { tensorType: { elemType, shape: { dim: [{ dimParam: 'M' }, { dimValue: columns }] } } },
  })
  const info = { input: [matrix('x', integer, K)], output: [matrix('y', float, N)] }
  return encodeModel({ name: 'probe', node, initializer, ...info })
}

// The state of one lowering: which value lies where, and the steps so far.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Node, Value } from '../../graph/ops.ts'
import { bindShape } from '../../graph/shape.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import { findFusions, ValueKeys, type Fusions } from './fusion.ts'
import {
  intStruct,
  Storage,
  storagesOf,
  type Form,
  type Heads,
  type KernelArgument,
  type KernelStep,
  type Step,
  type View,
} from './steps.ts'

/**
 * Gradients are multiplied by so much where they are rounded to float16, and products of them divided by it: down to 6e-8 they
 * keep all bits of the fraction, as losses are weighted by a batch's examples or targets, and from 64 on they are cut off.
 */
const float16Scale = 1024

/** A value in 16 bits, rows packed. */
export interface Rounded {
  readonly storage: Storage
  /** By which it was multiplied. */
  readonly scale: number
}

/** Weights on the device. */
export interface ResidentWeights {
  /** The weight's first byte, in the form asked for. */
  address(name: string, form: Form): bigint
}

/** Kernels number elements with 32 bits, some of them beyond the last. */
const elementsMax = 2 ** 30
const axesMax = 6

export class Lowering {
  readonly graph: Graph
  readonly form: Form
  readonly keys = new ValueKeys()
  readonly fusions: Fusions
  readonly steps: Step[] = []
  /** Made in the order of inputs and outputs. */
  readonly inputs = new Map<string, Storage>()
  readonly outputs = new Map<string, Storage>()
  /** Outputs that the host does not fetch. */
  readonly kept = new Map<string, Storage>()
  readonly weights: ResidentWeights
  readonly #bindings: ReadonlyMap<string, number>
  readonly #views = new Map<Value, View>()
  /** Values whose numbers are all the same: nobody stores them until somebody must. */
  readonly #uniform = new Map<Value, number>()
  readonly #placements = new Map<Value, View>()
  #wanted: ReadonlySet<Value> | null = null
  readonly #rounded = new Map<Value, Rounded>()
  /** Inputs that lie on the device in 16 bits: pasts, which attention alone reads. */
  readonly #halves = new Set<Value>()
  #gradients: ReadonlySet<Value> | null = null
  /** log Σ exp of each query, by the attention's inputs. */
  readonly logSums = new Map<string, Storage>()

  constructor(graph: Graph, form: Form, bindings: ReadonlyMap<string, number>, weights: ResidentWeights) {
    this.graph = graph
    this.form = form
    this.#bindings = bindings
    this.weights = weights
    this.fusions = findFusions(graph, this.keys)
  }

  /** By which gradients are multiplied where they are rounded to the 16 bits of the form. */
  get gradientScale(): number {
    return this.form === 'float16' ? float16Scale : 1
  }

  /** Where an output of the graph goes. */
  goalOf(output: string): Storage {
    const storage = this.outputs.get(output) ?? this.kept.get(output)
    assert.ok(storage !== undefined, `${output} is no output`)
    return storage
  }

  shapeOf(value: Value): number[] {
    return bindShape(value.shape, this.#bindings)
  }

  sizeOf(value: Value): number {
    const size = sizeOf(this.shapeOf(value))
    assert.ok(size <= elementsMax, `a value of ${size} numbers is more than a kernel counts`)
    return size
  }

  /** Numbers of the last axis. */
  widthOf(value: Value): number {
    return this.shapeOf(value).at(-1) ?? 1
  }

  rowsOf(value: Value): number {
    return sizeOf(this.shapeOf(value).slice(0, -1))
  }

  temporary(numbers: number, bytesEach = 4): Storage {
    return new Storage(Math.max(1, numbers) * bytesEach, 'arena')
  }

  set(value: Value, view: View): void {
    this.#views.set(value, view)
  }

  /** An input in the 16 bits of the form. */
  setHalf(value: Value, storage: Storage): void {
    this.#halves.add(value)
    this.set(value, { storage, offset: 0, stride: this.widthOf(value) })
  }

  isHalf(value: Value): boolean {
    return this.#halves.has(value)
  }

  isKnown(value: Value): boolean {
    return this.#views.has(value)
  }

  setUniform(value: Value, number: number): void {
    this.#uniform.set(value, number)
  }

  uniformOf(value: Value): number | undefined {
    return this.#uniform.get(value)
  }

  /** Where a value lies; a uniform one is written out when it is first asked for. */
  view(value: Value): View {
    const known = this.#views.get(value)
    assert.ok(!this.#halves.has(value), `${value.node.op} lies in 16 bits, which attention alone reads`)
    if (known !== undefined) return known
    if (value.node.op === 'weight') {
      const view = { ...this.frozen(value.node, 'float32'), stride: this.widthOf(value) }
      this.#views.set(value, view)
      return view
    }
    const number = this.#uniform.get(value)
    assert.ok(number !== undefined, `${value.node.op} has not been lowered`)
    const view = this.output(value)
    const count = this.sizeOf(value)
    this.kernel('fill', count, [at(view), { float: number }, { int: count }], 4 * count)
    return view
  }

  isContiguous(value: Value, view: View): boolean {
    return view.stride === this.widthOf(value) || this.rowsOf(value) === 1
  }

  /** Of keys and values of the past, in float32 or, where `isHalf`, in 16 bits. */
  past(value: Value): View {
    return this.#halves.has(value) ? (this.#views.get(value) as View) : this.contiguous(value)
  }

  /** The same with its rows behind each other, copied where they are not. */
  contiguous(value: Value): View {
    const view = this.view(value)
    if (this.isContiguous(value, view)) return view
    const width = this.widthOf(value)
    const copy = { storage: this.temporary(this.sizeOf(value)), offset: 0, stride: width }
    this.copy([this.rowsOf(value), width], view, [view.stride, 1], copy, [width, 1])
    return copy
  }

  /** A place for a value that is about to be written: where whoever wants it has reserved one, or anywhere. */
  output(value: Value): View {
    const width = this.widthOf(value)
    const placed = this.#placements.get(value)
    const view = placed ?? { storage: this.temporary(this.sizeOf(value)), offset: 0, stride: width }
    this.#views.set(value, view)
    return view
  }

  reserve(value: Value, view: View): void {
    this.#placements.set(value, view)
  }

  isReserved(value: Value): boolean {
    return this.#placements.has(value)
  }

  /** A weight as it is held on the device. */
  frozen(
    { attributes: { name }, outputs }: Node<'weight'>,
    form: Form,
  ): { readonly storage: Storage; readonly offset: 0 } {
    const numbers = this.sizeOf(outputs[0] as Value)
    const bytes = numbers * (form === 'float32' ? 4 : 2)
    return { storage: new Storage(bytes, 'resident', this.weights.address(name, form)), offset: 0 }
  }

  /** Whether anything in the graph, or the host, looks at the value. */
  isWanted(value: Value): boolean {
    this.#wanted ??= new Set([
      ...this.graph.nodes.flatMap((node) => node.inputs as readonly Value[]),
      ...Object.values(this.graph.outputs),
    ])
    return this.#wanted.has(value)
  }

  /** A value rounded to the 16 bits of the form; once for all who ask. */
  rounded(value: Value): Rounded {
    const known = this.#rounded.get(value)
    if (known !== undefined) return known
    const rounded = this.round(this.view(value), this.sizeOf(value), this.widthOf(value), this.#isGradient(value))
    this.#rounded.set(value, rounded)
    return rounded
  }

  round(view: View, count: number, width: number, isGradient: boolean): Rounded {
    const storage = this.temporary(count, 2)
    const args = [at(view), at({ storage, offset: 0 }), { int: width }, { int: view.stride }, { int: count }]
    const scale = isGradient ? this.gradientScale : 1
    if (this.form === 'bfloat16') this.kernel('to_bfloat16', count, args, 6 * count)
    else this.kernel('to_float16', count, [...args, { float: scale }], 6 * count)
    return { storage, scale }
  }

  /** Whether it is a gradient, or made of some. */
  #isGradient(value: Value): boolean {
    if (this.#gradients === null) {
      const gradients = new Set<Value>()
      for (const { op, inputs, outputs } of this.graph.nodes) {
        const isOne = op.endsWith('Grad') || (inputs as readonly Value[]).some((input) => gradients.has(input))
        if (isOne) for (const output of outputs) gradients.add(output)
      }
      this.#gradients = gradients
    }
    return this.#gradients.has(value)
  }

  /** One thread for each of `count` numbers, or for `each` of them together. */
  kernel(name: string, count: number, args: readonly KernelArgument[], bytes: number, each = 1): void {
    this.blocks(name, [Math.ceil(count / (256 * each)), 1, 1], 256, args, bytes)
  }

  blocks(
    name: string,
    grid: KernelStep['grid'],
    threads: number,
    args: readonly KernelArgument[],
    bytes: number,
    heads: Heads | null = null,
  ): void {
    if (grid.includes(0)) return
    this.step({ kind: 'kernel', name, grid, threads, arguments: args, bytes, heads })
  }

  step(step: Step): void {
    for (const storage of storagesOf(step)) {
      storage.first = Math.min(storage.first, this.steps.length)
      storage.last = this.steps.length
    }
    this.steps.push(step)
  }

  /** Numbers of `extents` from one order to another; strides in numbers. */
  copy(
    extents: readonly number[],
    from: View,
    fromStrides: readonly number[],
    to: View,
    toStrides: readonly number[],
  ): void {
    const kept = extents.map((_, axis) => axis).filter((axis) => extents[axis] !== 1)
    assert.ok(kept.length <= axesMax, `a copy of ${kept.length} axes; there are at most ${axesMax}`)
    const pick = (values: readonly number[]): number[] => padded(kept.map((axis) => values[axis] as number))
    const count = sizeOf(extents)
    const struct = intStruct([kept.length, ...pick(extents), ...pick(fromStrides), ...pick(toStrides)])
    this.kernel('copy_strided', count, [at(from), at(to), { struct }, { int: count }], 8 * count)
  }
}

export const at = (view: { readonly storage: Storage; readonly offset: number }): KernelArgument => ({ place: view })

/** To the length that kernels' structs have. */
export const padded = (values: readonly number[]): number[] => [
  ...values,
  ...Array.from({ length: axesMax - values.length }, () => 0),
]

/** Numbers from one element of each axis to the next, where rows of the last axis lie `stride` apart. */
export function stridesOf(shape: readonly number[], stride: number): number[] {
  const strides = shape.map(() => 1)
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = axis === shape.length - 2 ? stride : (strides[axis + 1] as number) * (shape[axis + 1] as number)
  return strides
}

// The state of one lowering: which value lies where, and the steps so far.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Value } from '../../graph/ops.ts'
import { bindShape } from '../../graph/shape.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import { type Argument, type Arguments, kernelSlots, type KernelName, Storage, type Step, type View } from './steps.ts'
import type { LoadedWeights, ProductForm } from './weights.ts'

/** float32 of a page of memory, and of a line of the caches. */
const [pageNumbers, lineNumbers] = [1024, 16]

/** Kernels take so many numbers at a time. */
export const lanes = 8
/** Chunks of an operation for each thread: enough that one that is held up does not hold up the others. */
const chunksPerThread = 4
const elementsPerChunk = 1024

export interface LoweringOptions {
  readonly threads: number
  readonly form: ProductForm
  readonly appends: boolean
}

export class Lowering {
  readonly graph: Graph
  readonly weights: LoadedWeights
  readonly threads: number
  readonly form: ProductForm
  /** Whether new keys and values of causal attention go into its past. */
  readonly appends: boolean
  readonly steps: Step[] = []
  readonly outputs = new Map<string, Storage>()
  /** By a query of any attention, at the most. */
  positionsSeen = 0
  readonly #bindings: ReadonlyMap<string, number>
  readonly #views = new Map<Value, View>()
  readonly #goals = new Map<Value, Storage>()
  readonly #words = new Map<Value, { readonly rows: Storage; readonly scales: Storage }>()
  readonly #made = new Map<object, unknown>()
  readonly #shapes = new Map<Value, readonly number[]>()
  readonly #users: ReadonlyMap<Value, readonly AnyNode[]>
  readonly #wanted: ReadonlySet<Value>

  constructor(
    graph: Graph,
    bindings: ReadonlyMap<string, number>,
    weights: LoadedWeights,
    { threads, form, appends }: LoweringOptions,
  ) {
    this.graph = graph
    this.weights = weights
    this.threads = threads
    this.form = form
    this.appends = appends
    this.#bindings = bindings
    this.#users = usersOf(graph)
    this.#wanted = new Set(Object.values(graph.outputs))
    for (const [name, value] of Object.entries(graph.outputs)) {
      const storage = new Storage(Math.max(4, 4 * this.sizeOf(value)), 'output')
      this.outputs.set(name, storage)
      if (!this.#goals.has(value)) this.#goals.set(value, storage)
    }
  }

  /** The node that alone wants it, once and no more; null: there are several, or an output is it. */
  onlyUserOf(value: Value): AnyNode | null {
    const [user, ...others] = this.#users.get(value) ?? []
    return user === undefined || others.length > 0 || this.#wanted.has(value) ? null : user
  }

  shapeOf(value: Value): readonly number[] {
    const known = this.#shapes.get(value) ?? bindShape(value.shape, this.#bindings)
    this.#shapes.set(value, known)
    return known
  }

  sizeOf(value: Value): number {
    return sizeOf(this.shapeOf(value))
  }

  /** Numbers of the last axis. */
  widthOf(value: Value): number {
    return this.shapeOf(value).at(-1) ?? 1
  }

  rowsOf(value: Value): number {
    return sizeOf(this.shapeOf(value).slice(0, -1))
  }

  temporary(bytes: number): Storage {
    return new Storage(Math.max(4, bytes), 'arena')
  }

  set(value: Value, view: View): void {
    this.#views.set(value, view)
  }

  isKnown(value: Value): boolean {
    return this.#views.has(value)
  }

  view(value: Value): View {
    const known = this.#views.get(value)
    if (known !== undefined) return known
    const { node } = value
    assert.ok(node.op === 'weight' || node.op === 'constant', `${node.op} has not been lowered`)
    const address =
      node.op === 'weight'
        ? this.weights.numbers(node.attributes.name)
        : this.weights.constant(node.attributes.fill, this.sizeOf(value))
    const view = {
      storage: new Storage(4 * this.sizeOf(value), 'resident', { address }),
      offset: 0,
      stride: this.widthOf(value),
    }
    this.#views.set(value, view)
    return view
  }

  /** The same with its rows behind each other, copied where they are not. */
  contiguous(value: Value): View {
    return this.apart(value, this.widthOf(value))
  }

  /** The same with its rows so many numbers apart, copied where they are not. */
  apart(value: Value, stride: number): View {
    const view = this.view(value)
    const [rows, width] = [this.rowsOf(value), this.widthOf(value)]
    if (view.stride === stride || (rows <= 1 && stride === width)) return view
    const copy = { storage: this.temporary(4 * rows * stride), offset: 0, stride }
    this.copyRows(rows, width, view, copy)
    return copy
  }

  /** A place for a value that is about to be written: an output's own, or anywhere. */
  output(value: Value): View {
    const [goal, width] = [this.#goals.get(value), this.widthOf(value)]
    // Rows that are whole pages apart meet in few lines of the first cache.
    const isApart = goal === undefined && this.form === 'float32' && width % pageNumbers === 0
    const stride = isApart ? width + lineNumbers : width
    const storage = goal ?? this.temporary(4 * this.rowsOf(value) * stride)
    const view = { storage, offset: 0, stride }
    this.#views.set(value, view)
    return view
  }

  /** A value's rows as words, once for all who ask. */
  words(value: Value): { readonly rows: Storage; readonly scales: Storage } {
    const known = this.#words.get(value)
    if (known !== undefined) return known
    const [count, width, from] = [this.rowsOf(value), this.widthOf(value), this.view(value)]
    // What is behind a row's last number meets weights of 0.
    const padded = 16 * Math.ceil(width / 16)
    assert.ok(width % lanes === 0, `rows of ${width} numbers are not taken ${lanes} at a time`)
    const made = { rows: this.temporary(2 * count * padded), scales: this.temporary(4 * count) }
    this.#words.set(value, made)
    // Words are half as long as what strides are counted in.
    const to = { storage: made.rows, offset: 0, stride: padded / 2 }
    this.step('words', this.chunksOf(count), {
      ...this.rowsAt(count, width, from, to),
      scales: { place: { storage: made.scales, offset: 0 } },
    })
    return made
  }

  copyRows(count: number, width: number, from: View, to: View): void {
    assert.ok(width % lanes === 0, `rows of ${width} numbers are not copied ${lanes} at a time`)
    this.step('copy', count, {
      from: { place: from },
      to: { place: to },
      middle: 1,
      inner: 1,
      width,
      fromOuter: 4 * from.stride,
      fromMiddle: 0,
      fromInner: 0,
      toOuter: 4 * to.stride,
      toMiddle: 0,
      toInner: 0,
    })
  }

  /** What `make` answered at first for that key. */
  once<Made>(key: object, make: () => Made): Made {
    if (!this.#made.has(key)) this.#made.set(key, make())
    return this.#made.get(key) as Made
  }

  /** Slots that kernels of rows begin with, beside where rows lie. */
  rowSlots(value: Value, from: View, to: View) {
    const [count, width] = [this.rowsOf(value), this.widthOf(value)]
    assert.ok(width % lanes === 0, `rows of ${width} numbers are not taken ${lanes} at a time`)
    return this.rowsAt(count, width, from, to)
  }

  /** The same for rows of any width, of kernels that take them. */
  rowsAt(count: number, width: number, from: View, to: View) {
    return {
      count,
      chunkRows: this.#chunkRows(count),
      width,
      from: { place: from },
      fromStride: 4 * from.stride,
      to: { place: to },
      toStride: 4 * to.stride,
    }
  }

  /** Into how many chunks so many rows go. */
  chunksOf(count: number): number {
    return count === 0 ? 0 : Math.ceil(count / this.#chunkRows(count))
  }

  /** Each number of a value by itself; where rows lie apart, what is between them too. All lie `to.stride` apart. */
  elementwise(
    kernel: 'gelu' | 'exactGelu' | 'geluGrad' | 'exactGeluGrad' | 'add' | 'scale',
    value: Value,
    from: View,
    to: View,
    other: Arguments<'add'>['with'] = null,
  ): void {
    const count = this.rowsOf(value) * to.stride
    assert.ok(count % lanes === 0, `${count} numbers are not taken ${lanes} at a time`)
    const chunk = elementsPerChunk
    const given = { count, chunk, from: { place: from }, to: { place: to }, with: other }
    this.step(kernel, Math.ceil(count / chunk), given)
  }

  step<Name extends KernelName>(kernel: Name, chunks: number, given: Arguments<Name>): void {
    if (chunks === 0) return
    const slots: readonly (keyof Arguments<Name>)[] = kernelSlots[kernel]
    const storages: Storage[] = []
    const values = slots.map((slot) => {
      const value: Argument = given[slot]
      if (value !== null && typeof value === 'object' && 'place' in value) storages.push(value.place.storage)
      return value
    })
    for (const storage of storages) {
      storage.first = Math.min(storage.first, this.steps.length)
      storage.last = this.steps.length
    }
    this.steps.push({ kernel, chunks, arguments: values, storages })
  }

  #chunkRows(count: number): number {
    return Math.max(1, Math.ceil(count / (chunksPerThread * this.threads)))
  }
}

/** Nodes that want each value; of a graph they are the same in every lowering. */
function usersOf(graph: Graph): ReadonlyMap<Value, readonly AnyNode[]> {
  const known = usersOfGraphs.get(graph)
  if (known !== undefined) return known
  const users = new Map<Value, AnyNode[]>()
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      const those = users.get(input)
      if (those === undefined) users.set(input, [node])
      else those.push(node)
    }
  }
  usersOfGraphs.set(graph, users)
  return users
}
const usersOfGraphs = new WeakMap<Graph, ReadonlyMap<Value, readonly AnyNode[]>>()

// Collects ONNX nodes while a graph is lowered. The same node asked for twice is made once.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { inputsOf, joinedRows } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import type { Shape } from '../../graph/shape.ts'
import type { Weight, Weights } from '../../tensor/weights.ts'
import { frozenProducts, tensorNames, type LinearForm, type Product } from './forms.ts'
import { encodeAttribute, externalTensor, neededNodes, valueInfo, type Attribute } from './protos.ts'
import { elementTypes, type GraphProto, type NodeProto, type TensorProto } from './schema.ts'

export interface EmitOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>
  readonly domain?: 'com.microsoft'
  /** Outputs that nobody wants. */
  readonly skipped?: readonly number[]
}

/** Which provider of onnxruntime runs the model: a few operations have another form on `webgpu`, which lacks theirs. */
export type Provider = 'cpu' | 'webgpu'

/** What a model is emitted for. */
export interface EmitterOptions {
  /** Of products with frozen weights; `float32` unless said. */
  readonly form?: LinearForm
  /**
   * `cpu` unless said. On `webgpu` frozen weights are inputs, named by `weightInput`: what lies on the device is there once for all
   * programs.
   */
  readonly provider?: Provider
}

/** The input that is a frozen weight in float32. */
export const weightInput = (name: string): string => `weight:${name}`

/** Rows, each still to be multiplied with a positive number. */
export interface RowScaled {
  readonly rows: string
  /** [rows, 1] */
  readonly scales: string
}

/** Rows, each still to be given a bias. */
export interface Biased {
  readonly rows: string
  readonly bias: string
}

/**
 * Hash-consing makes gradients cheap: a rule that needs an intermediate of the forward pass emits the forward
 * nodes again and gets the ones that are there.
 *
 * A value of three or more axes has up to two ONNX names: `full`, its own shape, and `flat`, all axes but the
 * last folded into rows. Ops that work row by row stay flat, so that no reshape stands between them.
 */
export class Emitter {
  /** Of products with frozen weights. */
  readonly form: LinearForm
  readonly provider: Provider
  readonly #graph: Graph
  readonly #weights: Weights
  readonly #nodes: NodeProto[] = []
  readonly #initializers = new Map<string, TensorProto>()
  readonly #made = new Map<string, readonly string[]>()
  readonly #full = new Map<Value, string>()
  readonly #flat = new Map<Value, string>()
  readonly #uses = new Map<Value, Set<OpName>>()
  readonly #ops: ReadonlySet<OpName>
  readonly #joined: ReadonlyMap<string, readonly Shape[]>
  /** By the name of the values. */
  readonly #products: ReadonlyMap<string, Product>
  readonly #rowScaled = new Map<string, RowScaled>()
  readonly #biased = new Map<string, Biased>()
  readonly #columnScaled = new Map<string, (factors: string) => string>()
  readonly #lowerBounds = new Map<string, number>()
  /** Frozen weights that are inputs. */
  readonly #fed = new Map<string, Shape>()

  constructor(graph: Graph, weights: Weights, { form = 'float32', provider = 'cpu' }: EmitterOptions = {}) {
    this.#graph = graph
    this.#ops = new Set(graph.nodes.map(({ op }) => op))
    this.#weights = weights
    this.#joined = joinedRows(graph)
    this.form = form
    const products = form === 'float32' ? [] : frozenProducts(graph, form)
    this.#products = new Map(products.map((product) => [tensorNames(product).values, product]))
    this.provider = provider
    for (const node of graph.nodes) {
      for (const input of node.inputs) this.#uses.set(input, (this.#uses.get(input) ?? new Set()).add(node.op))
    }
  }

  /** Whether some node of `op` takes `value`. */
  isUsedBy(value: Value, op: OpName): boolean {
    return this.#uses.get(value)?.has(op) ?? false
  }

  /** Whether any node is of `op`. */
  has(op: OpName): boolean {
    return this.#ops.has(op)
  }

  /** Whether it is a decoder's forward pass, of few rows: nodes cost more there than what they move. */
  get isDecoding(): boolean {
    return this.provider === 'cpu' && this.has('attention') && !this.has('attentionGrad')
  }

  /** Products of the same rows with frozen weights and biases, `node` among them. */
  besides(node: Node<'linear'>): readonly Node<'linear'>[] {
    const isFrozen = (x: Value | undefined): boolean => x?.node.op === 'weight'
    return this.#graph.nodes.filter(
      (each): each is Node<'linear'> & AnyNode =>
        each.op === 'linear' &&
        each.inputs[0] === node.inputs[0] &&
        each.attributes.transposed === node.attributes.transposed &&
        isFrozen(each.inputs[1]) &&
        isFrozen(each.inputs[2]),
    )
  }

  emit(opType: string, inputs: readonly string[], options: EmitOptions = {}): string {
    return this.emitMany(opType, inputs, 1, options)[0] as string
  }

  emitMany(
    opType: string,
    inputs: readonly string[],
    outputs: number,
    { attributes = {}, domain, skipped = [] }: EmitOptions = {},
  ): readonly string[] {
    const key = JSON.stringify([opType, inputs, outputs, attributes])
    const earlier = this.#made.get(key)
    if (earlier !== undefined) return earlier
    const names = Array.from({ length: outputs }, (_, i) =>
      skipped.includes(i) ? '' : `${opType}_${this.#nodes.length}${outputs > 1 ? `.${i}` : ''}`,
    )
    this.#nodes.push({
      opType,
      domain: domain ?? '',
      input: inputs,
      output: names,
      attribute: Object.entries(attributes).map(encodeAttribute),
    })
    this.#made.set(key, names)
    return names
  }

  /** int64 vector. */
  integers(values: readonly number[]): string {
    return this.#initializer({
      name: `i[${values}]`,
      dims: [values.length],
      dataType: elementTypes.int64,
      int64Data: values,
    })
  }
  /** int64 scalar. */
  integer(value: number): string {
    return this.#initializer({ name: `i${value}`, dims: [], dataType: elementTypes.int64, int64Data: [value] })
  }
  /** int32 scalar. */
  narrowInteger(value: number): string {
    return this.#initializer({ name: `n${value}`, dims: [], dataType: elementTypes.int32, int32Data: [value] })
  }
  /** float32 scalar. */
  float(value: number): string {
    return this.#initializer({ name: `f${value}`, dims: [], dataType: elementTypes.float32, floatData: [value] })
  }
  /** uint8 vector of one; a scalar where `rank` is 0. */
  byte(value: number, rank: 0 | 1): string {
    const dims = rank === 0 ? [] : [1]
    return this.#initializer({ name: `u${rank}.${value}`, dims, dataType: elementTypes.uint8, int32Data: [value] })
  }
  /** int8 column of ones: a product with it adds up rows of integers. */
  ones(count: number): string {
    const int32Data = Array.from({ length: count }, () => 1)
    return this.#initializer({ name: `ones.${count}`, dims: [count, 1], dataType: elementTypes.int8, int32Data })
  }
  /** A frozen weight where it lies on disk, cast to float32 where it is narrower; on `webgpu` an input. */
  weight(name: string, shape: Shape): string {
    const { dtype, shape: there } = this.#weightNamed(name)
    assert.deepEqual(there, shape, `weight ${name} is [${there}], the graph says [${shape}]`)
    if (this.provider === 'webgpu') {
      this.#fed.set(weightInput(name), shape)
      return weightInput(name)
    }
    const stored = this.stored(name)
    return dtype === 'float32' ? stored : this.emit('Cast', [stored], { attributes: { to: elementTypes.float32 } })
  }
  /** How a product with a frozen weight is computed in 8 bits. */
  product8(of: Pick<Product, 'name' | 'transposed'>): Product {
    return this.#products.get(tensorNames(of).values) ?? assert.fail(`${of.name} is not in 8 bits`)
  }
  /** A tensor on disk as it is. */
  stored(name: string): string {
    return this.#initializer(externalTensor(this.#weightNamed(name)))
  }
  #weightNamed(name: string): Weight {
    return this.#weights.tensors.get(name) ?? assert.fail(`no weight is named ${name}`)
  }

  /** int64 vector with the extents of `shape` at run time. */
  shape(shape: Shape): string {
    if (shape.every((dim) => typeof dim === 'number')) return this.integers(shape)
    return this.emit(
      'Concat',
      shape.map((dim) => (typeof dim === 'number' ? this.integers([dim]) : this.dimension(dim))),
      { attributes: { axis: 0 } },
    )
  }
  /** int64 vector of one: the extents of `shape` multiplied. */
  product(shape: Shape): string {
    return this.emit('ReduceProd', [this.shape(shape)], { attributes: { keepdims: 1 } })
  }
  /** int64 vector of one: what a named dimension is at run time, read off the inputs. */
  dimension(name: string): string {
    const parts = this.#joined.get(name)
    if (parts !== undefined) {
      const rows = parts.map((part) => this.product(part))
      return this.emit('ReduceSum', [this.emit('Concat', rows, { attributes: { axis: 0 } })])
    }
    for (const { attributes } of inputsOf(this.#graph)) {
      const axis = attributes.shape.indexOf(name)
      if (axis >= 0) return this.emit('Shape', [attributes.name], { attributes: { start: axis, end: axis + 1 } })
    }
    return assert.fail(`dimension ${name} is bound by no input`)
  }

  /** Each row times a positive number. Who may as well multiply later asks `rowScaled`; if all do, this is never computed. */
  scaleRows(rows: string, scales: string): string {
    const name = this.emit('Mul', [rows, scales])
    this.#rowScaled.set(name, { rows, scales })
    return name
  }
  /** What `scaleRows` made `name` of; null where it was made otherwise. */
  rowScaled(name: string): RowScaled | null {
    return this.#rowScaled.get(name) ?? null
  }

  /** A bias added to each row. Who may as well add it later asks `biased`; if all do, this is never computed. */
  addBias(rows: string, bias: string): string {
    const name = this.emit('Add', [rows, bias])
    this.#biased.set(name, { rows, bias })
    return name
  }
  /** What `addBias` made `name` of; null where it was made otherwise. */
  biased(name: string): Biased | null {
    return this.#biased.get(name) ?? null
  }

  /** Each column times its factor: in the scales of a product, where `name` is one of those that have them. */
  scaleColumns(name: string, factors: string): string {
    return this.#columnScaled.get(name)?.(factors) ?? this.emit('Mul', [name, factors])
  }
  /** `scaled` makes `name` with its columns times factors, at no more cost. */
  setColumnScaled(name: string, scaled: (factors: string) => string): void {
    this.#columnScaled.set(name, scaled)
  }

  /** What no element of `name` is below. */
  setLowerBound(name: string, bound: number): void {
    this.#lowerBounds.set(name, bound)
  }
  lowerBound(name: string): number | null {
    return this.#lowerBounds.get(name) ?? null
  }

  setFull(value: Value, name: string): void {
    this.#full.set(value, name)
    if (value.shape.length === 2) this.#flat.set(value, name)
  }
  setFlat(value: Value, name: string): void {
    this.#flat.set(value, name)
    if (value.shape.length === 2) this.#full.set(value, name)
  }
  full(value: Value): string {
    const name =
      this.#full.get(value) ?? this.emit('Reshape', [this.#flat.get(value) as string, this.shape(value.shape)])
    this.#full.set(value, name)
    return name
  }
  flat(value: Value): string {
    const name =
      this.#flat.get(value) ??
      this.emit('Reshape', [this.#full.get(value) as string, this.integers([-1, value.shape.at(-1) as number])])
    this.#flat.set(value, name)
    return name
  }

  /** The finished graph, its outputs under their own names. */
  finish(): GraphProto {
    for (const [name, value] of Object.entries(this.#graph.outputs)) {
      this.#nodes.push({ opType: 'Identity', domain: '', input: [this.full(value)], output: [name], attribute: [] })
    }
    const { node, used } = neededNodes(this.#nodes, Object.keys(this.#graph.outputs))
    return {
      name: 'graph',
      node,
      initializer: [...this.#initializers.values()].filter(({ name }) => used.has(name)),
      input: [
        ...inputsOf(this.#graph).map(({ attributes }) =>
          valueInfo(attributes.name, attributes.shape, attributes.dtype),
        ),
        ...[...this.#fed].filter(([name]) => used.has(name)).map(([name, shape]) => valueInfo(name, shape, 'float32')),
      ],
      output: Object.entries(this.#graph.outputs).map(([name, value]) => valueInfo(name, value.shape, value.dtype)),
    }
  }

  #initializer(tensor: TensorProto): string {
    this.#initializers.set(tensor.name, tensor)
    return tensor.name
  }
}

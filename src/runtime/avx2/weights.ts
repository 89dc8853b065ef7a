// Frozen weights in memory: matrices packed for products, the rest as float32.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { Node, Value } from '../../graph/ops.ts'
import { readWeight, widened } from '../../tensor/read-weight.ts'
import type { Weights } from '../../tensor/weights.ts'
import { panelColumns } from './kernels/packing.ts'
import { LargePages } from './large-pages.ts'
import { addressOf } from './machine-code.ts'
import { packPanels, type PackedWeight, packWeight } from './packed-weights.ts'

/** Of products with frozen weights: rows and weights in few bits each, or both as they are. */
export type ProductForm = 'words' | 'float32'

/** A packed matrix, and where its parts lie. */
export interface LoadedMatrix extends PackedWeight {
  readonly valuesAt: number
  readonly scalesAt: number
}

export interface Numbers {
  readonly data: Float32Array
  readonly shape: readonly number[]
}

/** Of a weight, in its own shape or another; null: it is none. */
export function frozenName({ node }: Value): string | null {
  if (node.op === 'reshape') return frozenName(node.inputs[0])
  return node.op === 'weight' ? node.attributes.name : null
}

/** Of the logits; null: there is none. */
export function biasOf(node: Node<'crossEntropy'> | Node<'crossEntropyGrad'>): Value | null {
  // The last input of the gradient is the cotangent.
  const inputs = node.op === 'crossEntropy' ? node.inputs : node.inputs.slice(0, -1)
  return inputs[3] ?? null
}

export class LoadedWeights {
  readonly #read: (name: string) => Numbers
  readonly #pages = new LargePages()
  readonly #numbers = new Map<string, Numbers>()
  readonly #matrices = new Map<string, LoadedMatrix>()
  readonly #constants = new Map<string, Float32Array>()
  readonly #panels = new Map<string, Uint8Array>()
  readonly #biases = new Map<string, Float32Array>()
  readonly #masks = new Map<number, Int32Array>()
  /** Asked for again by every lowering. */
  readonly #addresses = new Map<NodeJS.ArrayBufferView, number>()

  constructor(read: (name: string) => Numbers) {
    this.#read = read
  }

  /** Of a checkpoint. */
  static from({ folder, tensors }: Weights): LoadedWeights {
    return new LoadedWeights((name) => {
      const weight = tensors.get(name)
      assert.ok(weight !== undefined, `no weight is named ${name}`)
      return { data: widened(weight, readWeight(folder, weight)), shape: weight.shape }
    })
  }

  static of(weights: Readonly<Record<string, Numbers>>): LoadedWeights {
    return new LoadedWeights((name) => weights[name] as Numbers)
  }

  /** What the graph wants of them, at once: want of memory shows at the start. */
  load({ nodes }: Graph, form: ProductForm): void {
    for (const node of nodes) {
      if (node.op === 'linear') {
        const [, w, b] = node.inputs
        const columns = w.shape[node.attributes.transposed ? 0 : 1] as number
        if (b !== undefined) this.bias(frozenName(b), Math.ceil(columns / panelColumns))
        if (w.node.op !== 'weight') continue
        if (form === 'words') this.matrix(w.node.attributes.name, node.attributes.transposed)
        else this.panels(w.node.attributes.name, node.attributes.transposed)
        continue
      }
      if (node.op === 'crossEntropy' || node.op === 'crossEntropyGrad') {
        const table = node.inputs[1]
        const bias = biasOf(node)
        const vocabulary = table.shape[0] as number
        if (bias !== null) this.bias(frozenName(bias), Math.ceil(vocabulary / panelColumns))
        if (table.node.op !== 'weight') continue
        // Logits are made again where nobody wants the losses.
        this.panels(table.node.attributes.name, true)
        if (node.op === 'crossEntropyGrad') this.panels(table.node.attributes.name, false)
        continue
      }
      for (const { node: input } of node.inputs) if (input.op === 'weight') this.numbers(input.attributes.name)
    }
  }

  /** Of the first of its float32 numbers. */
  numbers(name: string): number {
    const known = this.#numbers.get(name) ?? this.#read(name)
    this.#numbers.set(name, known)
    return this.#addressOf(known.data)
  }

  /** [inner, columns], or [columns, inner] where `transposed`. */
  matrix(name: string, transposed: boolean): LoadedMatrix {
    const key = `${name} ${transposed}`
    const known = this.#matrices.get(key)
    if (known !== undefined) return known
    // An embedding is a head too: then it is there already.
    const { data, shape } = this.#numbers.get(name) ?? this.#read(name)
    const [rows, columns] = shape as readonly [number, number]
    const [inner, outputs] = transposed ? [columns, rows] : [rows, columns]
    const packed = packWeight(data, inner, outputs, transposed, (bytes) => this.#pages.allocate(bytes))
    const loaded = { ...packed, valuesAt: this.#addressOf(packed.values), scalesAt: this.#addressOf(packed.scales) }
    this.#matrices.set(key, loaded)
    return loaded
  }

  /** float32 [panel, inner, 16] of a matrix [inner, columns], or [columns, inner] where `transposed`, at this address; 0 behind the last column. */
  panels(name: string, transposed: boolean): number {
    const key = `${name} ${transposed}`
    const known = this.#panels.get(key) ?? this.#packPanels(name, transposed)
    this.#panels.set(key, known)
    return this.#addressOf(known)
  }

  #packPanels(name: string, transposed: boolean): Uint8Array {
    // What is not kept for other uses is dropped again.
    const { data, shape } = this.#numbers.get(name) ?? this.#read(name)
    const [rows, columns] = shape as readonly [number, number]
    const [inner, outputs] = transposed ? [columns, rows] : [rows, columns]
    const bytes = this.#pages.allocate(4 * inner * panelColumns * Math.ceil(outputs / panelColumns))
    packPanels(
      data,
      { inner, columns: outputs, transposed },
      new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4),
    )
    return bytes
  }

  /** float32 [panels · 16] at this address, 0 behind the last column; null: 0 everywhere. */
  bias(name: string | null, panels: number): number {
    const key = `${name} ${panels}`
    const known = this.#biases.get(key) ?? new Float32Array(panels * panelColumns)
    if (!this.#biases.has(key) && name !== null) known.set(this.#read(name).data)
    this.#biases.set(key, known)
    return this.#addressOf(known)
  }

  /** So many of one number, at this address. */
  constant(fill: number, count: number): number {
    const key = `${fill} ${count}`
    const known = this.#constants.get(key) ?? new Float32Array(count).fill(fill)
    this.#constants.set(key, known)
    return this.#addressOf(known)
  }

  /** int32 [16], −1 for each column that the last panel of so many columns has, 0 for the others. */
  mask(columns: number): number {
    const last = columns % panelColumns
    const known = this.#masks.get(last) ?? Int32Array.from({ length: panelColumns }, (_, c) => (c < last ? -1 : 0))
    this.#masks.set(last, known)
    return this.#addressOf(known)
  }

  #addressOf(array: NodeJS.ArrayBufferView): number {
    const address = this.#addresses.get(array) ?? Number(addressOf(array))
    this.#addresses.set(array, address)
    return address
  }
}

// Write a graph, op by op. Each method checks shapes and returns the value of a new node.
import type { DType } from '../tensor/tensor.ts'
import type { AnyNode, Node, OpName, Ops, Value } from './ops.ts'
import type { Shape } from './shape.ts'
import { shapeRules } from './shape-rules.ts'

export class GraphBuilder {
  readonly #scope: string

  /** `scope` goes before the name of every input, so that what is written twice can stand in one graph twice. */
  constructor(scope = '') {
    this.#scope = scope
  }

  input(name: string, shape: Shape, dtype: DType = 'float32'): Value {
    return this.#value('input', [], { name: this.#scope + name, shape, dtype })
  }
  weight(name: string, shape: Shape): Value {
    return this.#value('weight', [], { name, shape })
  }
  constant(fill: number, shape: Shape = []): Value {
    return this.#value('constant', [], { fill, shape })
  }

  add(x: Value, y: Value): Value {
    return this.#value('add', [x, y], {})
  }
  mul(x: Value, y: Value): Value {
    return this.#value('mul', [x, y], {})
  }
  scale(x: Value, factor: number): Value {
    return this.mul(x, this.constant(factor))
  }
  tanh(x: Value): Value {
    return this.#value('tanh', [x], {})
  }

  linear(x: Value, w: Value, b: Value | null, { transposed = false } = {}): Value {
    return this.#value('linear', b === null ? [x, w] : [x, w, b], { transposed })
  }
  outer(x: Value, y: Value): Value {
    return this.#value('outer', [x, y], {})
  }

  reshape(x: Value, shape: Shape): Value {
    return this.#value('reshape', [x], { shape })
  }
  transpose(x: Value, permutation: readonly number[]): Value {
    return this.#value('transpose', [x], { permutation })
  }
  split(x: Value, axis: number, sizes: readonly number[]): readonly Value[] {
    return this.#values('split', [x], { axis, sizes })
  }
  concat(inputs: readonly Value[], axis: number): Value {
    return this.#value('concat', inputs, { axis })
  }
  /** Values of one shape laid along a new first axis. */
  stack(inputs: readonly Value[]): Value {
    return this.concat(
      inputs.map((input) => this.reshape(input, [1, ...input.shape])),
      0,
    )
  }
  sumTo(x: Value, shape: Shape): Value {
    return this.#value('sumTo', [x], { shape })
  }
  broadcastTo(x: Value, shape: Shape): Value {
    return this.#value('broadcastTo', [x], { shape })
  }

  joinRows(inputs: readonly Value[], rows: string): Value {
    return this.#value('joinRows', inputs, { rows })
  }
  splitRows(x: Value, shapes: readonly Shape[]): readonly Value[] {
    return this.#values('splitRows', [x], { shapes })
  }

  gather(x: Value, indices: Value): Value {
    return this.#value('gather', [x, indices], {})
  }
  scatterAdd(rows: Value, indices: Value, shape: Shape): Value {
    return this.#value('scatterAdd', [rows, indices], { shape })
  }

  layerNorm(x: Value, scale: Value, shift: Value, epsilon: number): Value {
    return this.#value('layerNorm', [x, scale, shift], { epsilon })
  }
  layerNormGrad(inputs: Ops['layerNorm']['inputs'], ct: Value, epsilon: number): Value {
    return this.#value('layerNormGrad', [...inputs, ct], { epsilon })
  }
  gelu(x: Value): Value {
    return this.#value('gelu', [x], {})
  }
  geluGrad(x: Value, ct: Value): Value {
    return this.#value('geluGrad', [x, ct], {})
  }

  exactGelu(x: Value): Value {
    return this.#value('exactGelu', [x], {})
  }
  exactGeluGrad(x: Value, ct: Value): Value {
    return this.#value('exactGeluGrad', [x, ct], {})
  }

  attention(inputs: Ops['attention']['inputs'], heads: number): Value {
    return this.#value('attention', inputs, { heads })
  }
  attentionGrad(inputs: Ops['attention']['inputs'], ct: Value, heads: number): readonly Value[] {
    return this.#values('attentionGrad', [...inputs, ct], { heads })
  }
  crossAttention(inputs: Ops['crossAttention']['inputs'], heads: number): Value {
    return this.#value('crossAttention', inputs, { heads })
  }
  crossAttentionGrad(inputs: Ops['crossAttention']['inputs'], ct: Value, heads: number): readonly Value[] {
    return this.#values('crossAttentionGrad', [...inputs, ct], { heads })
  }

  crossEntropy(inputs: Ops['crossEntropy']['inputs'], smoothing = 0): Value {
    return this.#value('crossEntropy', inputs, { smoothing })
  }
  crossEntropyGrad(inputs: Ops['crossEntropy']['inputs'], ct: Value, smoothing: number): Value {
    return this.#value('crossEntropyGrad', [...inputs, ct], { smoothing })
  }

  #value<Op extends OpName>(op: Op, inputs: Ops[Op]['inputs'], attributes: Ops[Op]['attributes']): Value {
    return this.#values(op, inputs, attributes)[0] as Value
  }

  #values<Op extends OpName>(op: Op, inputs: Ops[Op]['inputs'], attributes: Ops[Op]['attributes']): readonly Value[] {
    const dtype = 'dtype' in attributes ? attributes.dtype : 'float32'
    const outputs: Value[] = []
    const node: Node<Op> = Object.freeze({ op, inputs, attributes, outputs })
    for (const [index, shape] of shapeRules[op](inputs, attributes).entries()) {
      outputs.push(Object.freeze({ node: node as unknown as AnyNode, index, shape: shape, dtype }))
    }
    return Object.freeze(outputs)
  }
}

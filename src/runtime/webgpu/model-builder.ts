// An ONNX model written node by node, for work that is no graph of ours: moving numbers about on the device.
import { encodeAttribute, type Attribute } from '../onnx/protos.ts'
import { elementTypes, encodeModel, type NodeProto, type TensorProto, type ValueInfoProto } from '../onnx/schema.ts'

export type ElementType = 'float32' | 'int32' | 'int64'
export type Dims = readonly (number | string)[]

export class ModelBuilder {
  readonly #nodes: NodeProto[] = []
  readonly #initializers = new Map<string, TensorProto>()
  readonly #inputs: ValueInfoProto[] = []
  readonly #outputs: ValueInfoProto[] = []
  readonly #shared = new Map<string, string>()

  /** Whether there is an input of that name. */
  has(name: string): boolean {
    return this.#inputs.some((input) => input.name === name)
  }

  /** Emits once, whoever asks under the same key. */
  shared(key: string, emit: () => string): string {
    const name = this.#shared.get(key) ?? emit()
    this.#shared.set(key, name)
    return name
  }

  input(name: string, type: ElementType, dims: Dims): string {
    this.#inputs.push(valueInfo(name, type, dims))
    return name
  }

  output(name: string, from: string, dims: Dims, type: ElementType = 'float32'): void {
    this.#nodes.push({ opType: 'Identity', domain: '', input: [from], output: [name], attribute: [] })
    this.#outputs.push(valueInfo(name, type, dims))
  }

  /** An output that is written by the node itself: where it is given the memory of the first input, in place. */
  outputOf(name: string, opType: string, inputs: readonly string[], dims: Dims): void {
    this.#nodes.push({ opType, domain: '', input: inputs, output: [name], attribute: [] })
    this.#outputs.push(valueInfo(name, 'float32', dims))
  }

  emit(opType: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.emitMany(opType, inputs, 1, attributes)[0] as string
  }

  emitMany(
    opType: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): readonly string[] {
    const output = Array.from({ length: outputs }, (_, i) => `${opType}_${this.#nodes.length}.${i}`)
    const attribute = Object.entries(attributes).map(encodeAttribute)
    this.#nodes.push({ opType, domain: '', input: inputs, output, attribute })
    return output
  }

  /** int64 vector, as shapes, axes and the like are given. */
  integers(values: readonly number[]): string {
    return this.#initializer(`i[${values}]`, {
      dims: [values.length],
      dataType: elementTypes.int64,
      int64Data: values,
    })
  }

  /** int32 [1, values.length] */
  row(values: readonly number[]): string {
    return this.#initializer(`r[${values}]`, {
      dims: [1, values.length],
      dataType: elementTypes.int32,
      int32Data: values,
    })
  }

  /** float32 scalar. */
  float(value: number): string {
    return this.#initializer(`f${value}`, { dims: [], dataType: elementTypes.float32, floatData: [value] })
  }

  cast(name: string, to: ElementType): string {
    return this.emit('Cast', [name], { to: elementTypes[to] })
  }

  encode(): Uint8Array {
    return encodeModel({
      name: 'graph',
      node: this.#nodes,
      initializer: [...this.#initializers.values()],
      input: this.#inputs,
      output: this.#outputs,
    })
  }

  #initializer(name: string, tensor: Omit<TensorProto, 'name'>): string {
    this.#initializers.set(name, { name, ...tensor })
    return name
  }
}

function valueInfo(name: string, type: ElementType, dims: Dims): ValueInfoProto {
  const dim = dims.map((extent) => (typeof extent === 'number' ? { dimValue: extent } : { dimParam: extent }))
  return { name, type: { tensorType: { elemType: elementTypes[type], shape: { dim } } } }
}

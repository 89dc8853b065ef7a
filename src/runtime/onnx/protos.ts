// Pieces of a model in ONNX's protocol buffers, made of what graphs and weights say of themselves.
import type { Shape } from '../../graph/shape.ts'
import type { Weight } from '../../tensor/weights.ts'
import { elementTypes, type AttributeProto, type NodeProto, type TensorProto, type ValueInfoProto } from './schema.ts'

/** A plain number is an INT; FLOAT attributes are written `{ float: x }`. */
export type Attribute = number | readonly number[] | string | { readonly float: number }

/** onnxruntime runs every node, also one whose outputs nobody takes. */
export function neededNodes(
  nodes: readonly NodeProto[],
  outputs: readonly string[],
): { readonly node: readonly NodeProto[]; readonly used: ReadonlySet<string> } {
  const used = new Set(outputs)
  const isNeeded = ({ output, input }: NodeProto): boolean => {
    if (!output.some((name) => used.has(name))) return false
    for (const name of input) used.add(name)
    return true
  }
  return { node: nodes.toReversed().filter(isNeeded).toReversed(), used }
}

export function encodeAttribute([name, value]: [string, Attribute]): AttributeProto {
  if (typeof value === 'number') return { name, type: 'INT', i: value }
  if (typeof value === 'string') return { name, type: 'STRING', s: Buffer.from(value) }
  return 'float' in value ? { name, type: 'FLOAT', f: value.float } : { name, type: 'INTS', ints: value }
}

export function externalTensor({ name, dtype, shape, file, offset, bytes }: Weight): TensorProto {
  const location = { location: file, offset: String(offset), length: String(bytes) }
  const externalData = Object.entries(location).map(([key, value]) => ({ key, value }))
  return { name, dims: shape, dataType: elementTypes[dtype], dataLocation: 'EXTERNAL', externalData }
}

export function valueInfo(name: string, shape: Shape, dtype: 'float32' | 'int32'): ValueInfoProto {
  const dim = shape.map((extent) => (typeof extent === 'number' ? { dimValue: extent } : { dimParam: extent }))
  return { name, type: { tensorType: { elemType: elementTypes[dtype], shape: { dim } } } }
}

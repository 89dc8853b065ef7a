// Lets values be written straight to where they end up: a part of a whole, or what the host fetches.
import type { Node, OpName, Value } from '../../graph/ops.ts'
import type { Lowering } from './lowering.ts'
import { stridesOf } from './lowering.ts'
import type { View } from './steps.ts'

/** What writes its result anywhere, as long as rows follow each other. */
const contiguousWriters: ReadonlySet<OpName> = new Set<OpName>([
  ...(['add', 'mul', 'tanh', 'linear', 'outer', 'transpose', 'sumTo', 'gather', 'scatterAdd', 'layerNorm'] as const),
  ...(['layerNormGrad', 'gelu', 'geluGrad', 'attention', 'attentionGrad', 'crossEntropy', 'crossEntropyGrad'] as const),
  ...(['exactGelu', 'exactGeluGrad', 'crossAttention', 'crossAttentionGrad', 'concat', 'joinRows'] as const),
])
/** What writes rows that lie apart, too. */
const stridedWriters: ReadonlySet<OpName> = new Set<OpName>([
  'linear',
  'outer',
  'attention',
  'attentionGrad',
  'crossAttention',
  'crossAttentionGrad',
])

/** Reserves places, wholes before their parts, so that a part of a part goes to the right place at once. */
export function reserveParts(l: Lowering): void {
  for (const [name, value] of Object.entries(l.graph.outputs)) {
    reserve(l, value, { storage: l.goalOf(name), offset: 0, stride: l.widthOf(value) })
  }
  for (const node of l.graph.nodes.toReversed()) {
    if (node.op === 'joinRows') reserveInputs(l, node.inputs, node.outputs[0] as Value, 0)
    else if (node.op === 'concat') reserveConcat(l, node)
  }
}

function reserveConcat(l: Lowering, { inputs, attributes: { axis }, outputs }: Node<'concat'>): void {
  reserveInputs(l, inputs, outputs[0] as Value, axis)
}

function reserveInputs(l: Lowering, inputs: readonly Value[], out: Value, axis: number): void {
  const shape = l.shapeOf(out)
  const isRows = out.node.op === 'joinRows' || shape.slice(0, axis).every((extent) => extent === 1)
  const isColumns = axis === shape.length - 1
  if (!isRows && !isColumns) return
  const whole = l.output(out)
  const strides = stridesOf(shape, whole.stride)
  let offset = whole.offset
  for (const input of inputs) {
    const extent = out.node.op === 'joinRows' ? l.rowsOf(input) : (l.shapeOf(input)[axis] as number)
    const stride = isColumns && out.node.op === 'concat' ? whole.stride : l.widthOf(input)
    reserve(l, input, { ...whole, offset, stride })
    offset += extent * (strides[axis] as number)
  }
}

/** Each value has one place, the first that was found for it. */
function reserve(l: Lowering, value: Value, view: View): void {
  // New axes of 1 and the like change nothing about where numbers lie.
  if (value.node.op === 'reshape' && view.stride === l.widthOf(value)) {
    const [x] = value.node.inputs
    return reserve(l, x, { ...view, stride: l.widthOf(x) })
  }
  const isApart = view.stride !== l.widthOf(value) && l.rowsOf(value) !== 1
  const writers = isApart ? stridedWriters : contiguousWriters
  if (writers.has(value.node.op) && !l.isReserved(value) && !l.fusions.deferred.has(value.node)) l.reserve(value, view)
}

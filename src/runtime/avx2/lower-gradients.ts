// Gradients of layer norm, of gelu and of fetched rows as kernels.
import type { Node, Value } from '../../graph/ops.ts'
import assert from 'node:assert/strict'
import { lanes, type Lowering } from './lowering.ts'

const outputOf = ({ outputs }: { readonly outputs: readonly Value[] }): Value => outputs[0] as Value

/** Two lines of a cache: less in a chunk, and threads would write the same lines. */
const chunkColumnsMin = 32
const chunksPerThread = 4

export function lowerLayerNormGrad(l: Lowering, node: Node<'layerNormGrad'>): void {
  const [x, scale, , ct] = node.inputs
  const back = l.view(ct)
  l.step('layerNormGrad', l.chunksOf(l.rowsOf(x)), {
    ...l.rowSlots(x, l.view(x), l.output(outputOf(node))),
    ct: { place: back },
    ctStride: 4 * back.stride,
    scale: { place: l.view(scale) },
    epsilon: { float: node.attributes.epsilon },
    ofWidth: { float: 1 / l.widthOf(x) },
  })
}

export function lowerGeluGrad(l: Lowering, node: Node<'geluGrad'> | Node<'exactGeluGrad'>): void {
  const [x, ct] = node.inputs
  const out = outputOf(node)
  const to = l.output(out)
  l.elementwise(node.op, out, l.apart(x, to.stride), to, { place: l.apart(ct, to.stride) })
}

export function lowerScatterAdd(l: Lowering, node: Node<'scatterAdd'>): void {
  const [rows, numbers] = node.inputs
  const out = outputOf(node)
  const width = l.widthOf(out)
  assert.ok(width % lanes === 0, `rows of ${width} numbers are not added ${lanes} at a time`)
  const wanted = lanes * Math.ceil(width / (lanes * chunksPerThread * l.threads))
  const chunkColumns = Math.max(chunkColumnsMin, wanted)
  const [from, to] = [l.view(rows), l.output(out)]
  l.step('scatterAdd', Math.ceil(width / chunkColumns), {
    count: l.rowsOf(rows),
    rows: l.rowsOf(out),
    width,
    chunkColumns,
    from: { place: from },
    fromStride: 4 * from.stride,
    to: { place: to },
    toStride: 4 * to.stride,
    numbers: { place: l.view(numbers) },
  })
}

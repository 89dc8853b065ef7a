// Operations that only move numbers: views where possible, copies where not.
import assert from 'node:assert/strict'
import type { Node, Value } from '../../graph/ops.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import { lanes, type Lowering } from './lowering.ts'
import type { View } from './steps.ts'

const outputOf = ({ outputs }: { readonly outputs: readonly Value[] }): Value => outputs[0] as Value

export function lowerReshape(l: Lowering, node: Node<'reshape'>): void {
  const [x] = node.inputs
  const out = outputOf(node)
  // Rows that stay rows may go on lying apart.
  const view = l.widthOf(x) === l.widthOf(out) ? l.view(x) : l.contiguous(x)
  l.set(out, { ...view, stride: l.widthOf(x) === l.widthOf(out) ? view.stride : l.widthOf(out) })
}

/** Parts of the last axis, or of the first, are views. */
export function lowerSplit(l: Lowering, { inputs: [x], attributes: { axis, sizes }, outputs }: Node<'split'>): void {
  const shape = l.shapeOf(x)
  const view = l.view(x)
  const isLast = axis === shape.length - 1
  assert.ok(isLast || axis === 0, `split along axis ${axis} of [${shape}]`)
  const step = isLast ? 1 : view.stride * sizeOf(shape.slice(1, -1))
  let start = 0
  for (const [i, size] of sizes.entries()) {
    l.set(outputs[i] as Value, { ...view, offset: view.offset + start * step })
    start += size
  }
}

/** Along the first axis one input's rows after the other's; along the last parts of each row. */
export function lowerConcat(l: Lowering, { inputs, attributes: { axis }, outputs }: Node<'concat'>): void {
  const out = outputOf({ outputs })
  const axes = out.shape.length
  if (axis === 0 && axes > 1) return joinRows(l, inputs, out)
  assert.ok(axis === axes - 1, `joined along axis ${axis} of [${out.shape}]`)
  const whole = l.output(out)
  let { offset } = whole
  for (const input of inputs) {
    l.copyRows(l.rowsOf(input), l.widthOf(input), l.view(input), { ...whole, offset })
    offset += l.widthOf(input)
  }
}

export function lowerJoinRows(l: Lowering, { inputs, outputs }: Node<'joinRows'>): void {
  joinRows(l, inputs, outputOf({ outputs }))
}

function joinRows(l: Lowering, inputs: readonly Value[], out: Value): void {
  const filled = inputs.filter((input) => l.rowsOf(input) > 0)
  const [only] = filled
  if (only !== undefined && filled.length === 1 && !Object.values(l.graph.outputs).includes(out))
    return l.set(out, l.view(only))
  const whole = l.output(out)
  let offset = whole.offset
  for (const input of filled) {
    const rows = l.rowsOf(input)
    l.copyRows(rows, whole.stride, l.view(input), { ...whole, offset })
    offset += rows * whole.stride
  }
}

export function lowerSplitRows(l: Lowering, { inputs: [x], outputs }: Node<'splitRows'>): void {
  const view = l.view(x)
  let row = 0
  for (const out of outputs) {
    l.set(out, { ...view, offset: view.offset + row * view.stride })
    row += l.rowsOf(out)
  }
}

/** Axes in another order, the last one staying the last; where it does not, it is a matter of whoever reads it (`pastOf`). */
export function lowerTranspose(l: Lowering, node: Node<'transpose'>): void {
  const { permutation } = node.attributes
  const [x] = node.inputs
  const out = outputOf(node)
  const last = permutation.length - 1
  if (permutation[last] !== last) return
  assert.ok(l.widthOf(x) % lanes === 0, `rows of ${l.widthOf(x)} numbers are not copied ${lanes} at a time`)
  const from = l.view(x)
  const shape = l.shapeOf(x)
  const strides = rowStrides(shape, from)
  const [to, extents] = [l.output(out), l.shapeOf(out)]
  const own = rowStrides(extents, to)
  const axes = merged(
    permutation.slice(0, -1).map((axis, i) => ({
      extent: extents[i] as number,
      from: strides[axis] as number,
      to: own[i] as number,
    })),
  )
  assert.ok(axes.length <= 4, `axes of [${shape}] in the order ${permutation}`)
  if (axes.some(({ extent }) => extent === 0)) return
  const [all, outer, middle, inner] = [
    ...Array.from({ length: 4 - axes.length }, () => ({ extent: 1, from: 0, to: 0 })),
    ...axes,
  ] as [Axis, Axis, Axis, Axis]
  for (let i = 0; i < all.extent; i++) {
    l.step('copy', outer.extent, {
      from: { place: { ...from, offset: from.offset + i * all.from } },
      to: { place: { ...to, offset: to.offset + i * all.to } },
      middle: middle.extent,
      inner: inner.extent,
      width: l.widthOf(out),
      fromOuter: 4 * outer.from,
      fromMiddle: 4 * middle.from,
      fromInner: 4 * inner.from,
      toOuter: 4 * outer.to,
      toMiddle: 4 * middle.to,
      toInner: 4 * inner.to,
    })
  }
}

interface Axis {
  readonly extent: number
  /** Numbers from one to the next, there and here. */
  readonly from: number
  readonly to: number
}

/** Of all axes but the last, in numbers. */
function rowStrides(shape: readonly number[], { stride }: View): number[] {
  let next = stride
  return shape
    .slice(0, -1)
    .toReversed()
    .map((extent) => {
      const own = next
      next *= extent
      return own
    })
    .toReversed()
}

/** Axes that follow each other in both orders are one. */
function merged(axes: readonly Axis[]): Axis[] {
  const kept: Axis[] = []
  for (const axis of axes.filter(({ extent }) => extent !== 1)) {
    const before = kept.at(-1)
    if (before !== undefined && before.from === axis.from * axis.extent && before.to === axis.to * axis.extent)
      kept[kept.length - 1] = { ...axis, extent: before.extent * axis.extent }
    else kept.push(axis)
  }
  return kept
}

// Operations that move numbers or sum them: views where possible, copies where not.
import type { Node, Value } from '../../graph/ops.ts'
import { broadcastShapes } from '../../graph/shape.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import { at, type Lowering, padded, stridesOf } from './lowering.ts'
import { intStruct, type View } from './steps.ts'

export function lowerReshape(l: Lowering, node: Node<'reshape'>): void {
  const [[x], out] = [node.inputs, node.outputs[0] as Value]
  const uniform = l.uniformOf(x)
  if (uniform !== undefined) return l.setUniform(out, uniform)
  const view = l.view(x)
  // Rows that stay rows may go on lying apart.
  if (l.widthOf(x) === l.widthOf(out)) l.set(out, view)
  else l.set(out, { ...l.contiguous(x), stride: l.widthOf(out) })
}

export function lowerTranspose(
  l: Lowering,
  { inputs: [x], attributes: { permutation }, outputs }: Node<'transpose'>,
): void {
  const out = outputs[0] as Value
  const view = l.view(x)
  const shape = l.shapeOf(out)
  const strides = stridesOf(l.shapeOf(x), view.stride)
  const from = permutation.map((axis) => strides[axis] as number)
  const to = l.output(out)
  l.copy(shape, view, from, to, stridesOf(shape, shape.at(-1) ?? 1))
}

/** Parts of the last axis, or of the first that is not 1, are views. */
export function lowerSplit(l: Lowering, { inputs: [x], attributes: { axis, sizes }, outputs }: Node<'split'>): void {
  const shape = l.shapeOf(x)
  const view = l.view(x)
  const strides = stridesOf(shape, view.stride)
  const isLast = axis === shape.length - 1
  const isFirst = sizeOf(shape.slice(0, axis)) === 1
  let start = 0
  for (const [i, size] of sizes.entries()) {
    const out = outputs[i] as Value
    const part: View = { ...view, offset: view.offset + start * (strides[axis] as number) }
    start += size
    // Of a vector cut apart, or of single rows, what is left is one row.
    if (isLast) l.set(out, part)
    else if (isFirst) l.set(out, part)
    else {
      const own = l.shapeOf(out)
      l.copy(own, part, strides, l.output(out), stridesOf(own, own.at(-1) as number))
    }
  }
}

export function lowerConcat(l: Lowering, { inputs, attributes: { axis }, outputs }: Node<'concat'>): void {
  joinParts(l, outputs[0] as Value, inputs, axis)
}

/** The rows of all inputs, one input after the other. */
export function lowerJoinRows(l: Lowering, { inputs, outputs }: Node<'joinRows'>): void {
  const out = outputs[0] as Value
  const view = reserved(l, out)
  const width = l.widthOf(out)
  let offset = view.offset
  for (const input of inputs) {
    const from = l.view(input)
    const rows = l.rowsOf(input)
    if (!isThere(from, view, offset, width, rows))
      l.copy([rows, width], from, [from.stride, 1], { ...view, offset }, [width, 1])
    offset += rows * width
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

function joinParts(l: Lowering, out: Value, inputs: readonly Value[], axis: number): void {
  const view = reserved(l, out)
  const strides = stridesOf(l.shapeOf(out), l.widthOf(out))
  let offset = view.offset
  for (const input of inputs) {
    const from = l.view(input)
    const shape = l.shapeOf(input)
    const stride = axis === shape.length - 1 ? l.widthOf(out) : l.widthOf(input)
    if (!isThere(from, view, offset, stride, l.rowsOf(input)))
      l.copy(shape, from, stridesOf(shape, from.stride), { ...view, offset }, strides)
    offset += (shape[axis] as number) * (strides[axis] as number)
  }
}

const isThere = (from: View, to: View, offset: number, stride: number, rows: number): boolean =>
  from.storage === to.storage && from.offset === offset && (from.stride === stride || rows === 1)

/** The whole, which its parts may already have been written to. */
const reserved = (l: Lowering, out: Value): View => (l.isKnown(out) ? l.view(out) : l.output(out))

export function lowerBroadcastTo(l: Lowering, { inputs: [x], outputs }: Node<'broadcastTo'>): void {
  const out = outputs[0] as Value
  const uniform = l.uniformOf(x)
  if (uniform !== undefined) return l.setUniform(out, uniform)
  const [shape, view] = [l.shapeOf(out), l.view(x)]
  l.copy(shape, view, stretched(l.shapeOf(x), view.stride, shape), l.output(out), stridesOf(shape, shape.at(-1) ?? 1))
}

/** Strides of x along the axes of the wider shape that it broadcasts to: 0 where it is stretched. */
function stretched(shape: readonly number[], stride: number, wider: readonly number[]): number[] {
  const strides = stridesOf(shape, stride)
  const missing = wider.length - shape.length
  return wider.map((_, axis) => {
    const own = axis - missing
    return own < 0 || shape[own] === 1 ? 0 : (strides[own] as number)
  })
}

/** Sums away the axes along which the result has one number and x has several. */
export function lowerSumTo(l: Lowering, { inputs: [x], outputs }: Node<'sumTo'>): void {
  sumTo(l, x, outputs[0] as Value)
}

/** Few long sums take a block each. */
const longTerms = 64
const fewSums = 4096

function sumTo(l: Lowering, x: Value, out: Value): void {
  const view = l.view(x)
  sumViews(l, view, l.shapeOf(x), view.stride, l.output(out), l.shapeOf(out))
}

/** `to` is contiguous, of `target`, which broadcasts to `shape`. */
export function sumViews(
  l: Lowering,
  from: View,
  shape: readonly number[],
  stride: number,
  to: View,
  target: readonly number[],
): void {
  const strides = stridesOf(shape, stride)
  const missing = shape.length - target.length
  const isSummed = (axis: number): boolean =>
    shape[axis] !== 1 && (axis < missing || (target[axis - missing] as number) === 1)
  const axes = shape.map((_, axis) => axis).filter((axis) => shape[axis] !== 1)
  const [kept, summed] = [axes.filter((axis) => !isSummed(axis)), axes.filter(isSummed)]
  const struct = intStruct(
    [kept, summed].flatMap((group) => [
      group.length,
      ...padded(group.map((axis) => shape[axis] as number)),
      ...padded(group.map((axis) => strides[axis] as number)),
    ]),
  )
  const sums = sizeOf(kept.map((axis) => shape[axis] as number))
  const terms = sizeOf(summed.map((axis) => shape[axis] as number))
  const bytes = 4 * sums * (terms + 1)
  if (terms >= longTerms && sums <= fewSums)
    l.blocks('sum_block', [sums, 1, 1], 256, [at(from), at(to), { struct }, { int: terms }], bytes)
  else l.kernel('sum_each', sums, [at(from), at(to), { struct }, { int: sums }, { int: terms }], bytes)
}

export function lowerBinary(l: Lowering, node: Node<'add' | 'mul'>): void {
  const [x, y] = node.inputs
  const out = node.outputs[0] as Value
  const [a, b] = [l.uniformOf(x), l.uniformOf(y)]
  const combined = (p: number, q: number): number => (node.op === 'add' ? p + q : p * q)
  if (a !== undefined && b !== undefined) return l.setUniform(out, combined(a, b))
  const [shape, count] = [l.shapeOf(out), l.sizeOf(out)]
  for (const [value, uniform] of [
    [x, b],
    [y, a],
  ] as const) {
    if (uniform === undefined || l.sizeOf(value) !== count) continue
    // The other operand is one number, and this one has the shape of the result.
    if (uniform === (node.op === 'add' ? 0 : 1) && !l.isReserved(out)) return l.set(out, l.view(value))
    const from = l.contiguous(value)
    return l.kernel(
      `${node.op}_scalar`,
      count,
      [at(from), at(l.output(out)), { float: uniform }, { int: count }],
      8 * count,
    )
  }
  if (l.sizeOf(x) === count && l.sizeOf(y) === count) {
    const [p, q] = [l.contiguous(x), l.contiguous(y)]
    return l.kernel(`${node.op}_same`, count, [at(p), at(q), at(l.output(out)), { int: count }], 12 * count, 4)
  }
  const [p, q] = [l.view(x), l.view(y)]
  const wide = broadcastShapes(l.shapeOf(x), l.shapeOf(y)) as number[]
  const struct = intStruct([
    wide.length,
    ...padded(wide),
    ...padded(stretched(l.shapeOf(x), p.stride, shape)),
    ...padded(stretched(l.shapeOf(y), q.stride, shape)),
  ])
  l.kernel(`${node.op}_broadcast`, count, [at(p), at(q), at(l.output(out)), { struct }, { int: count }], 12 * count)
}

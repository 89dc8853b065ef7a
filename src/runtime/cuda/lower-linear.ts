// Matrix products: linear layers with what follows them, outer products, and the head of the cross-entropy.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import { at, type Lowering } from './lowering.ts'
import type { PlacedFactor, View } from './steps.ts'

/** A product with nothing behind it. */
const plain = { kind: 'product', added: null, bias: null, gelu: false } as const

interface Follow {
  /** Contiguous or not, of the shape of the result. */
  readonly added?: View | null
  readonly gelu?: boolean
}

/** x · w + b, written to `out`; a frozen matrix is taken in the form of the program. */
export function emitLinear(
  l: Lowering,
  node: Node<'linear'>,
  out: View,
  { added = null, gelu = false }: Follow = {},
): void {
  const [x, w, b] = node.inputs
  const right = matrix(l, w, node.attributes.transposed)
  const { factor: left, scale } = rowsOf(l, x, right.type)
  const bias = b === undefined ? null : l.contiguous(b)
  const [rows, inner] = [l.rowsOf(x), l.widthOf(x)]
  const columns = l.widthOf(node.outputs[0] as Value)
  l.step({ kind: 'product', rows, columns, inner, left, right, out, added, bias, gelu, scale })
}

export function lowerLinear(l: Lowering, node: Node<'linear'>): void {
  if (!l.fusions.deferred.has(node)) emitLinear(l, node, l.output(node.outputs[0] as Value))
}

export function lowerGelu(l: Lowering, node: Node<'gelu'>): void {
  const [x] = node.inputs
  const out = l.output(node.outputs[0] as Value)
  if (x.node.op === 'linear' && l.fusions.deferred.has(x.node)) return emitLinear(l, x.node, out, { gelu: true })
  const count = l.sizeOf(x)
  l.kernel('gelu', count, [at(l.contiguous(x)), at(out), { int: count }], 8 * count, 4)
}

/** xᵀ · y over rows; trained numbers are in it, so always in float32. */
export function lowerOuter(l: Lowering, { inputs: [x, y], outputs }: Node<'outer'>): void {
  const left = { ...rowsOf(l, x, 'float32').factor, transposed: true }
  const [rows, columns, inner] = [l.widthOf(x), l.widthOf(y), l.rowsOf(x)]
  const out = l.output(outputs[0] as Value)
  const { factor: right, scale } = rowsOf(l, y, 'float32')
  l.step({ ...plain, rows, columns, inner, left, right, out, scale })
}

function logitsOf(l: Lowering, [hidden, table, , b]: Ops['crossEntropy']['inputs']): View {
  const [rows, inner, columns] = [l.rowsOf(hidden), l.widthOf(hidden), l.shapeOf(table)[0] as number]
  const right = matrix(l, table, true)
  const { factor: left, scale } = rowsOf(l, hidden, right.type)
  const out = { storage: l.temporary(rows * columns), offset: 0, stride: columns }
  const bias = b === undefined ? null : l.contiguous(b)
  l.step({ ...plain, rows, columns, inner, left, right, out, bias, scale })
  return out
}

const entropyThreads = 512

export function lowerCrossEntropy(l: Lowering, node: Node<'crossEntropy'>): void {
  const [hidden, , labels] = node.inputs
  const out = node.outputs[0] as Value
  if ([...l.fusions.losses.values()].includes(out)) return
  const logits = logitsOf(l, node.inputs)
  const [rows, vocabulary] = [l.rowsOf(hidden), logits.stride]
  const args = [at(logits), at(l.contiguous(labels)), at(l.output(out)), { int: vocabulary }]
  const smoothing = { float: node.attributes.smoothing }
  l.blocks('cross_entropy', [rows, 1, 1], entropyThreads, [...args, smoothing], 4 * rows * vocabulary)
}

/** d hidden = d logits · table. Where the losses are wanted too, they come with it. */
export function lowerCrossEntropyGrad(l: Lowering, node: Node<'crossEntropyGrad'>): void {
  const [hidden, table, labels] = node.inputs
  const ct = node.inputs.at(-1) as Value
  const logits = logitsOf(l, node.inputs.slice(0, -1) as unknown as Ops['crossEntropy']['inputs'])
  const [rows, vocabulary] = [l.rowsOf(hidden), logits.stride]
  const loss = l.fusions.losses.get(node)
  const losses = loss === undefined ? { place: null } : at(l.output(loss))
  const args = [at(logits), at(l.contiguous(labels)), at(l.contiguous(ct)), losses, { int: vocabulary }]
  const smoothing = { float: node.attributes.smoothing }
  l.blocks('cross_entropy_gradient', [rows, 1, 1], entropyThreads, [...args, smoothing], 12 * rows * vocabulary)
  const right = matrix(l, table, false)
  const rounded = right.type === 'float32' ? null : l.round(logits, rows * vocabulary, vocabulary, true)
  const place = rounded === null ? logits : { storage: rounded.storage, offset: 0 }
  const left: PlacedFactor = { place, stride: vocabulary, type: right.type, transposed: false }
  const out = l.output(node.outputs[0] as Value)
  const [columns, inner] = [l.widthOf(hidden), vocabulary]
  l.step({ ...plain, rows, columns, inner, left, right, out, scale: 1 / (rounded?.scale ?? 1) })
}

function matrix(l: Lowering, w: Value, transposed: boolean): PlacedFactor {
  const { form } = l
  if (w.node.op === 'weight' && form !== 'float32')
    return { place: l.frozen(w.node, form), stride: l.widthOf(w), type: form, transposed }
  const view = l.view(w)
  return { place: view, stride: view.stride, type: 'float32', transposed }
}

/** `scale`: by which a product of them is to be multiplied. */
function rowsOf(
  l: Lowering,
  x: Value,
  type: PlacedFactor['type'],
): { readonly factor: PlacedFactor; readonly scale: number } {
  if (type === 'float32') {
    const view = l.view(x)
    return { factor: { place: view, stride: view.stride, type, transposed: false }, scale: 1 }
  }
  const { storage, scale } = l.rounded(x)
  const factor = { place: { storage, offset: 0 }, stride: l.widthOf(x), type, transposed: false }
  return { factor, scale: 1 / scale }
}

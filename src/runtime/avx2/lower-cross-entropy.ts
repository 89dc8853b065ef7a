// Cross-entropy over a vocabulary and its gradient: logits are made once for both.
import type { Node, Value } from '../../graph/ops.ts'
import { panelColumns } from './kernels/packing.ts'
import { emitGemm, matrixOf, panelsOf } from './lower-gemm.ts'
import type { Lowering } from './lowering.ts'
import type { View } from './steps.ts'
import { frozenName } from './weights.ts'

type Inputs = Node<'crossEntropy'>['inputs']

/** The losses themselves are made where the first of both is lowered. */
export function lowerCrossEntropy(l: Lowering, node: Node<'crossEntropy'>): void {
  logitsOf(l, node.inputs, node.attributes.smoothing)
}

/** (p − (1 − ε)·onehot(label) − ε/vocabulary) · ct, times the table. */
export function lowerCrossEntropyGrad(l: Lowering, node: Node<'crossEntropyGrad'>): void {
  const inputs = node.inputs.slice(0, -1) as unknown as Inputs
  const [hidden, table, labels] = inputs
  const { smoothing } = node.attributes
  const first = l.graph.nodes.find((each) => each.op === 'crossEntropyGrad' && isOf(each, inputs, smoothing))
  const { logits, logSums } = first === node ? logitsOf(l, inputs, smoothing) : makeLogits(l, inputs, smoothing, null)
  const [vocabulary, width] = l.shapeOf(table) as readonly [number, number]
  const count = l.sizeOf(labels)
  // In place: another gradient of the same makes logits of its own.
  l.step('crossEntropyGradRows', l.chunksOf(count), {
    ...l.rowsAt(count, vocabulary, logits, logits),
    labels: { place: l.view(labels) },
    logSums: { place: logSums },
    cts: { place: l.view(node.inputs.at(-1) as Value) },
    smoothing: { float: smoothing },
    ofWidth: { float: 1 / vocabulary },
  })
  emitGemm(l, {
    rows: l.rowsOf(hidden),
    inner: vocabulary,
    columns: width,
    a: { view: logits },
    b: matrixOf(l, table, false),
    out: { view: l.output(node.outputs[0] as Value) },
  })
}

interface Logits {
  /** [rows, vocabulary] in whole panels. */
  readonly logits: View
  /** log Σ exp of each row. */
  readonly logSums: View
}

function logitsOf(l: Lowering, inputs: Inputs, smoothing: number): Logits {
  const forward = l.graph.nodes.find((each) => each.op === 'crossEntropy' && isOf(each, inputs, smoothing))
  return l.once(forward ?? inputs, () => makeLogits(l, inputs, smoothing, forward?.outputs[0] ?? null))
}

function isOf(node: Node<'crossEntropy'> | Node<'crossEntropyGrad'>, inputs: Inputs, smoothing: number): boolean {
  const own = node.op === 'crossEntropy' ? node.inputs : node.inputs.slice(0, -1)
  return (
    node.attributes.smoothing === smoothing &&
    own.length === inputs.length &&
    own.every((input, i) => input === inputs[i])
  )
}

/** And the losses, where they are wanted. */
function makeLogits(l: Lowering, inputs: Inputs, smoothing: number, wanted: Value | null): Logits {
  const [hidden, table, labels, bias] = inputs
  const [vocabulary, inner] = l.shapeOf(table) as readonly [number, number]
  const [rows, panels] = [l.rowsOf(hidden), panelsOf(vocabulary)]
  const stride = panels * panelColumns
  const logits = { storage: l.temporary(4 * rows * stride), offset: 0, stride }
  const logSums = { storage: l.temporary(4 * rows), offset: 0, stride: 1 }
  const losses = wanted === null ? { ...logSums, storage: l.temporary(4 * rows) } : l.output(wanted)
  emitGemm(l, {
    rows,
    inner,
    columns: vocabulary,
    a: { view: l.view(hidden) },
    b: matrixOf(l, table, true),
    bias: bias === undefined ? null : l.weights.bias(frozenName(bias), panels),
    out: { view: logits },
    wholePanels: true,
  })
  const { to: _to, toStride: _toStride, ...at } = l.rowsAt(rows, vocabulary, logits, logits)
  l.step('crossEntropyRows', l.chunksOf(rows), {
    ...at,
    labels: { place: l.view(labels) },
    smoothing: { float: smoothing },
    ofWidth: { float: 1 / vocabulary },
    losses: { place: losses },
    logSums: { place: logSums },
  })
  return { logits, logSums }
}

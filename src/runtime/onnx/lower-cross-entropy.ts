// Cross-entropy over a vocabulary and its gradient in ONNX: logits are made once for both.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { emitProduct, rowsOf } from './lower-linear.ts'
import { emitMixture, emitRows } from './lower-mixture.ts'

export function lowerCrossEntropy(e: Emitter, node: Node<'crossEntropy'>): void {
  const [hidden, , , bias] = node.inputs
  const { logits, probabilities, label } = softmaxOf(e, node.inputs)
  if (e.form !== 'float32' && node.attributes.smoothing === 0) {
    // One pass over the logits less. What has no probability in float32 at all is said to cost 87 nats.
    const own = e.emit('GatherElements', [probabilities, label], { attributes: { axis: 1 } })
    const loss = e.emit('Neg', [e.emit('Log', [e.emit('Max', [own, e.float(leastProbability)])])])
    return e.setFull(node.outputs[0] as Value, e.emit('Reshape', [loss, e.integers([-1])]))
  }
  // log Σ exp(l) = max l − log max p: two passes that only read.
  const logSum = e.emit('Sub', [maxOf(e, logits), e.emit('Log', [maxOf(e, probabilities)])])
  const own = e.emit('GatherElements', [logits, label], { attributes: { axis: 1 } })
  const meanLogit = (mean: string): string => {
    const product = e.emit('MatMul', [e.flat(hidden), e.emit('Reshape', [mean, e.integers([-1, 1])])])
    return bias === undefined
      ? product
      : e.emit('Add', [product, e.emit('ReduceMean', [e.full(bias), e.integers([0])])])
  }
  const loss = e.emit('Sub', [logSum, smoothed(e, node, own, meanLogit)])
  e.setFull(node.outputs[0] as Value, e.emit('Reshape', [loss, e.integers([-1])]))
}

/** (p − (1 − ε)·onehot(label) − ε/vocabulary) · table = p · table − (1 − ε)·table[label] − ε·(mean row of table) */
export function lowerCrossEntropyGrad(e: Emitter, node: Node<'crossEntropyGrad'>): void {
  const [, table, labels] = node.inputs
  const ct = node.inputs.at(-1) as Value
  const { probabilities } = softmaxOf(e, node.inputs.slice(0, -1) as unknown as Ops['crossEntropy']['inputs'])
  const largest = maxOf(e, probabilities)
  const rows = { name: probabilities, count: labels.shape, width: table.shape[0] as number }
  const mixed = emitMixture(e, { probabilities: rows, largest }, table, meanRow(e, table))
  const own = emitRows(e, table, e.full(labels))
  const column = e.emit('Reshape', [e.full(ct), e.integers([-1, 1])])
  const target = smoothed(e, node, own, (mean) => mean)
  e.setFlat(node.outputs[0] as Value, e.emit('Mul', [e.emit('Sub', [mixed, target]), column]))
}

/** About the least normal number. */
const leastProbability = 1.2e-38

/** [rows, 1] */
const maxOf = (e: Emitter, name: string): string => e.emit('ReduceMax', [name, e.integers([-1])])

/** [1, d]: of a frozen table folded once, where a mean of logits were one more pass over all of them. */
const meanRow = (e: Emitter, table: Value): string =>
  e.emit('ReduceMean', [e.full(table), e.integers([0])], { attributes: { keepdims: 1 } })

/** (1 − ε)·own + ε·(what `of` makes of the mean row of the table); `own` itself without smoothing. */
function smoothed(
  e: Emitter,
  { inputs, attributes: { smoothing } }: Node<'crossEntropy'> | Node<'crossEntropyGrad'>,
  own: string,
  of: (mean: string) => string,
): string {
  if (smoothing === 0) return own
  const other = e.emit('Mul', [of(meanRow(e, inputs[1])), e.float(smoothing)])
  return e.emit('Add', [e.emit('Mul', [own, e.float(1 - smoothing)]), other])
}

interface SoftmaxParts {
  readonly logits: string
  readonly probabilities: string
  readonly label: string
}

function softmaxOf(e: Emitter, [hidden, table, labels, bias]: Ops['crossEntropy']['inputs']): SoftmaxParts {
  const added = bias === undefined ? {} : { bias: e.full(bias) }
  const logits = emitProduct(e, rowsOf(e, hidden), table, { transposed: true, ...added })
  const probabilities = e.emit('Softmax', [logits], { attributes: { axis: -1 } })
  return { logits, probabilities, label: e.emit('Reshape', [e.full(labels), e.integers([-1, 1])]) }
}

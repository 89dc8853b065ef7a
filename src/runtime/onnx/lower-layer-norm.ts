// Layer norms and their gradient in ONNX.
import type { Node, Ops, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'

type Inputs = Ops['layerNorm']['inputs']

export function lowerLayerNorm(e: Emitter, node: Node<'layerNorm'>): void {
  e.setFlat(node.outputs[0] as Value, outputsOf(e, node.inputs, node.attributes.epsilon)[0] as string)
}

/**
 * dx = (g − mean(g) − x̂·mean(g·x̂)) / σ with g = ct·scale
 *    = (g − mean(g) − c·k) / σ with c = x − mean(x) = σ·x̂ and k = mean(g·c)/σ².
 * Without a pass for c: mean(g·c) = mean(g·x) − mean(x)·mean(g), and c·k = x·k − mean(x)·k. Where a mean is many deviations large
 * that loses digits, though next to 8 bits none that count.
 */
export function lowerLayerNormGrad(e: Emitter, node: Node<'layerNormGrad'>): void {
  const [x, scale, shift, ct] = node.inputs
  const [, mean, inverse] = outputsOf(e, [x, scale, shift], node.attributes.epsilon) as [string, string, string]
  const later = e.rowScaled(e.flat(ct))
  const g = e.scaleColumns(later?.rows ?? e.flat(ct), e.full(scale))
  const meanOf = (name: string): string => e.emit('ReduceMean', [name, e.integers([-1])])
  const isCentred = e.form === 'float32'
  const c = isCentred ? e.emit('Sub', [e.flat(x), mean]) : e.flat(x)
  /** A number of each row less that of c, where c is x. */
  const less = (name: string, ofMean: string): string =>
    isCentred ? name : e.emit('Sub', [name, e.emit('Mul', [mean, ofMean])])

  const covariance = less(meanOf(e.emit('Mul', [g, c])), meanOf(g))
  const k = e.emit('Mul', [covariance, e.emit('Mul', [inverse, inverse])])
  const difference = e.emit('Sub', [e.emit('Sub', [g, less(meanOf(g), k)]), e.emit('Mul', [c, k])])
  const factor = later === null ? inverse : e.emit('Mul', [inverse, later.scales])
  e.setFlat(node.outputs[0] as Value, e.emit('Mul', [difference, factor]))
}

/** Mean and inverse deviation are asked for only where a gradient will want them. */
function outputsOf(e: Emitter, [x, scale, shift]: Inputs, epsilon: number): readonly string[] {
  const attributes = { axis: -1, epsilon: { float: epsilon } }
  const inputs = [e.flat(x), e.full(scale), e.full(shift)]
  return e.emitMany('LayerNormalization', inputs, e.isUsedBy(x, 'layerNormGrad') ? 3 : 1, { attributes })
}

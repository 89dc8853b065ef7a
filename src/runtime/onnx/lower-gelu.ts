// Both kinds of gelu in ONNX. Where products are in 8 bits anyway, a gradient takes fewer passes over the activations.
import type { Node, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { lowerUnary } from './lower-unary.ts'

export function lowerGelu(e: Emitter, node: Node<'gelu'>): void {
  const [x] = node.inputs
  const isExact = e.form === 'float32'
  if (isExact && e.isUsedBy(x, 'geluGrad')) e.setFlat(node.outputs[0] as Value, geluParts(e, e.flat(x)).y)
  else lowerUnary(e, node, (name) => e.emit('Gelu', [name], { attributes: { approximate: 'tanh' } }))
}

export function lowerExactGelu(e: Emitter, node: Node<'exactGelu'>): void {
  const [x] = node.inputs
  if (e.form === 'float32' && e.isUsedBy(x, 'exactGeluGrad'))
    e.setFlat(node.outputs[0] as Value, e.emit('Mul', [e.flat(x), normalDistribution(e, e.flat(x))]))
  else lowerUnary(e, node, (name) => e.emit('Gelu', [name], { attributes: { approximate: 'none' } }))
}

/** With y = x·s and s = σ(z): dy/dx = s + (y − y·s)·dz/dx. */
export function lowerGeluGrad(e: Emitter, node: Node<'geluGrad'>): void {
  const [x, ct] = node.inputs
  if (e.form !== 'float32') return lowerDifference(e, node, 'FastGelu')
  const { square, s, y } = geluParts(e, e.flat(x))
  const slope = e.emit('Add', [e.emit('Mul', [square, e.float(3 * geluCube)]), e.float(geluLinear)])
  const bend = e.emit('Mul', [e.emit('Sub', [y, e.emit('Mul', [y, s])]), slope])
  setWeighed(e, node, e.emit('Add', [s, bend]), ct)
}

/** dy/dx = Φ(x) + x·φ(x) */
export function lowerExactGeluGrad(e: Emitter, node: Node<'exactGeluGrad'>): void {
  const [x, ct] = node.inputs
  if (e.form !== 'float32') return lowerDifference(e, node, 'BiasGelu')
  const density = e.emit('Exp', [e.emit('Mul', [e.emit('Mul', [e.flat(x), e.flat(x)]), e.float(-0.5)])])
  const bend = e.emit('Mul', [e.emit('Mul', [e.flat(x), density]), e.float(1 / Math.sqrt(2 * Math.PI))])
  setWeighed(e, node, e.emit('Add', [normalDistribution(e, e.flat(x)), bend]), ct)
}

type GeluGrad = Node<'geluGrad'> | Node<'exactGeluGrad'>

/**
 * dy/dx = (y(x + h) − y(x − h))/2h: two passes of a kernel that adds a bias, in place of a dozen. Off by h²/6·|y‴| < 2e-5 and by
 * the rounding of y, some 4e-6·|x|: a hundredth of what 8 bits are.
 */
function lowerDifference(e: Emitter, node: GeluGrad, kernel: 'FastGelu' | 'BiasGelu'): void {
  const [x, ct] = node.inputs
  const width = e.integers([x.shape.at(-1) as number])
  const [up, down] = [halfStep, -halfStep].map((shift) =>
    e.emit(kernel, [e.flat(x), e.emit('Expand', [e.float(shift), width])], { domain: 'com.microsoft' }),
  ) as [string, string]
  setWeighed(e, node, e.emit('Sub', [up, down]), ct, 1 / (2 * halfStep))
}

/** A power of two, so that x ± h is off by the rounding of the sum alone. */
const halfStep = 2 ** -7

/** dx = factor · slope · ct, what is the same for a row left to whoever takes it. */
function setWeighed(e: Emitter, node: GeluGrad, slope: string, ct: Value, factor = 1): void {
  const later = e.rowScaled(e.flat(ct))
  const dx = e.emit('Mul', [slope, later?.rows ?? e.flat(ct)])
  const all = factor === 1 ? null : e.float(factor)
  const scales = later !== null && all !== null ? e.emit('Mul', [later.scales, all]) : (later?.scales ?? all)
  e.setFlat(node.outputs[0] as Value, scales === null ? dx : e.scaleRows(dx, scales))
}

/** Φ(x) = (1 + erf(x/√2))/2 */
function normalDistribution(e: Emitter, x: string): string {
  const erf = e.emit('Erf', [e.emit('Mul', [x, e.float(Math.SQRT1_2)])])
  return e.emit('Mul', [e.emit('Add', [erf, e.float(1)]), e.float(0.5)])
}

// gelu_new(x) = x·σ(z) with z = √(8/π)·(x + 0.044715·x³), since (1 + tanh(z/2))/2 = σ(z).
const geluLinear = Math.sqrt(8 / Math.PI)
const geluCube = 0.044715 * geluLinear

function geluParts(e: Emitter, x: string): { readonly square: string; readonly s: string; readonly y: string } {
  const square = e.emit('Mul', [x, x])
  const factor = e.emit('Add', [e.emit('Mul', [square, e.float(geluCube)]), e.float(geluLinear)])
  const s = e.emit('Sigmoid', [e.emit('Mul', [x, factor])])
  return { square, s, y: e.emit('Mul', [x, s]) }
}

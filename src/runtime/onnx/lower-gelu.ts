// Both kinds of gelu in ONNX. Where products are in 8 bits anyway, a gradient takes fewer passes over the activations.
import type { Node, Value } from '../../graph/ops.ts'
import type { Emitter } from './emitter.ts'
import { lowerUnary } from './lower-unary.ts'

export function lowerGelu(e: Emitter, node: Node<'gelu'>): void {
  const [x] = node.inputs
  const isTrained = e.isUsedBy(x, 'geluGrad')
  if (!isTrained) lowerUnary(e, node, (name) => e.emit('Gelu', [name], { attributes: { approximate: 'tanh' } }))
  else if (e.form === 'float32') e.setFlat(node.outputs[0] as Value, geluParts(e, e.flat(x)).y)
  else lowerFused(e, node, 'FastGelu')
}

export function lowerExactGelu(e: Emitter, node: Node<'exactGelu'>): void {
  const [x] = node.inputs
  const isTrained = e.isUsedBy(x, 'exactGeluGrad')
  if (!isTrained) lowerUnary(e, node, (name) => e.emit('Gelu', [name], { attributes: { approximate: 'none' } }))
  else if (e.form === 'float32')
    e.setFlat(node.outputs[0] as Value, e.emit('Mul', [e.flat(x), normalDistribution(e, e.flat(x))]))
  else lowerFused(e, node, 'BiasGelu')
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

type Kernel = 'FastGelu' | 'BiasGelu'

function lowerFused(e: Emitter, node: Node<'gelu'> | Node<'exactGelu'>, kernel: Kernel): void {
  const y = geluOfShifted(e, node.inputs[0], kernel, 0)
  e.setLowerBound(y, geluMin)
  e.setFlat(node.outputs[0] as Value, y)
}

/** Either kind is least at x ≈ -0.752, where it is -0.16997 and -0.17004. */
const geluMin = -0.171

/** y(x + shift), by a kernel that adds a bias: the shift goes with the one of the layer that x comes from. */
function geluOfShifted(e: Emitter, x: Value, kernel: Kernel, shift: number): string {
  const { rows, bias } = e.biased(e.flat(x)) ?? { rows: e.flat(x), bias: null }
  const width = e.integers([x.shape.at(-1) as number])
  const all = bias ?? e.emit('Expand', [e.float(0), width])
  const shifted = shift === 0 ? all : e.emit('Add', [all, e.float(shift)])
  return e.emit(kernel, [rows, shifted], { domain: 'com.microsoft' })
}

/**
 * dy/dx = (y(x + h) − y(x))/h: one more pass of the kernel, in place of a dozen. Off by h/2·|y″| < 4e-4 and by the rounding of y,
 * some 2e-4·|x|; in the mean of |x| < 3 by 3e-4 of it, a hundredth of what 8 bits are.
 */
function lowerDifference(e: Emitter, node: GeluGrad, kernel: Kernel): void {
  const [x, ct] = node.inputs
  const [there, here] = [step, 0].map((shift) => geluOfShifted(e, x, kernel, shift)) as [string, string]
  setWeighed(e, node, e.emit('Sub', [there, here]), ct, 1 / step)
}

/** A power of two, so that x + h is off by the rounding of the sum alone. */
const step = 2 ** -10

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

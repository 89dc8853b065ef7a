// Kernels that treat each number alone: gelu in both forms, sums and factors.
import { at, r8, r9, rax, rbp, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { type Constants, emitExp, emitRest } from './constants.ts'

/** Counts are multiples of 8; `with` is what is added, or the factor. */
export const elementwiseSlots = ['count', 'chunk', 'from', 'to', 'with'] as const
const slot = (name: (typeof elementwiseSlots)[number]): ReturnType<typeof at> =>
  at(rbp, 8 * elementwiseSlots.indexOf(name))

/** y0 is each eight numbers, and what `body` leaves there goes out; those of `with` are at r9. */
export function emitElements(m: VectorAssembler, body: () => void): void {
  m.move(rbp, rdi)
  m.move(rax, rsi)
  m.multiplyAt(rax, slot('chunk'))
  emitRest(m, { left: rcx, free: rdx, from: rax, all: slot('count'), most: slot('chunk') })
  m.shiftRight(rcx, 3)
  m.shiftLeft(rax, 2)
  m.load(rsi, slot('from'))
  m.arithmetic('add', rsi, rax)
  m.load(r8, slot('to'))
  m.arithmetic('add', r8, rax)
  m.load(r9, slot('with'))
  m.arithmetic('add', r9, rax)
  const more = m.here()
  m.unary('movups', y(0), at(rsi))
  body()
  m.storeVector('movups', at(r8), y(0))
  for (const register of [rsi, r8, r9]) m.arithmetic('add', register, 32)
  m.arithmetic('subtract', rcx, 1)
  m.jumpIf('notEqual', more)
  m.return()
}

export function emitAdd(m: VectorAssembler): void {
  emitElements(m, () => m.op('addps', y(0), y(0), at(r9)))
}

/** By one number, which lies in the slot itself. */
export function emitScale(m: VectorAssembler): void {
  emitElements(m, () => {
    m.unary('broadcastss', y(1), slot('with'))
    m.op('mulps', y(0), y(0), y(1))
  })
}

/** x / (1 + exp(−2u)), u = √(2/π)·(x + 0.044715·x³): the tanh form (Hendrycks & Gimpel 2016, section 2), as ½(1 + tanh u) is that quotient. */
export function emitGelu(m: VectorAssembler, c: Constants): void {
  const factor = -2 * Math.sqrt(2 / Math.PI)
  emitElements(m, () => {
    m.op('mulps', y(1), y(0), y(0))
    m.unary('movups', y(2), c.float(factor * 0.044715))
    m.op('fmadd213ps', y(1), y(2), c.float(factor))
    m.op('mulps', y(1), y(1), y(0))
    emitExp(m, c, y(1), y(2), y(3))
    m.op('addps', y(1), y(1), c.float(1))
    m.op('divps', y(0), y(0), y(1))
  })
}

/** Of Abramowitz & Stegun 1964, 7.1.26: erfc(z) = (a₁t + … + a₅t⁵)·exp(−z²), t = 1/(1 + pz), to 1.5e-7. */
const erfc = { p: 0.3275911, a: [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429] }

/**
 * y6 = ½erfc(|x|/√2), which is Φ(−|x|), y4 = |x| and y1 = exp(−x²/2) of the numbers x in y0, which stay; y1 to y6 are overwritten.
 */
export function emitNormalTail(m: VectorAssembler, c: Constants): void {
  const [x, size, t, sum] = [y(0), y(4), y(5), y(6)]
  m.op('andps', size, x, c.bits(0x7fffffff))
  m.unary('movups', t, c.float(erfc.p * Math.SQRT1_2))
  m.op('fmadd213ps', t, size, c.float(1))
  m.unary('movups', sum, c.float(1))
  m.op('divps', t, sum, t)
  m.op('mulps', y(1), x, x)
  m.op('mulps', y(1), y(1), c.float(-0.5))
  emitExp(m, c, y(1), y(2), y(3))
  m.unary('movups', sum, c.float(0.5 * (erfc.a[4] as number)))
  for (const a of erfc.a.slice(0, 4).toReversed()) m.op('fmadd213ps', sum, t, c.float(0.5 * a))
  m.op('mulps', sum, sum, t)
  m.op('mulps', sum, sum, y(1))
}

/** x·Φ(x) = max(x, 0) − |x|·½erfc(|x|/√2). */
export function emitExactGelu(m: VectorAssembler, c: Constants): void {
  const [x, size, tail] = [y(0), y(4), y(6)]
  emitElements(m, () => {
    emitNormalTail(m, c)
    m.op('pxor', y(1), y(1), y(1))
    m.op('maxps', x, x, y(1))
    m.op('fnmadd231ps', x, size, tail)
  })
}

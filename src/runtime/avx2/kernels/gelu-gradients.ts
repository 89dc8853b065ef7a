// Gradients of gelu in both forms, number by number: `with` is what comes back to each.
import { at, r9 } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import { type Constants, emitExp } from './constants.ts'
import { emitElements, emitNormalTail } from './elementwise.ts'

/** From here on the slope is 0 or 1 to less than a float32 tells, and no power of the number is too large for one. */
const tanhEnd = 10
const normalEnd = 13

/** x between −`end` and `end`; what is no number stays none. `t` is overwritten. */
function emitBetween(m: VectorAssembler, c: Constants, x: Vector, end: number, t: Vector): void {
  // Of a number and NaN these answer the second.
  m.unary('movups', t, c.float(-end))
  m.op('maxps', x, t, x)
  m.unary('movups', t, c.float(end))
  m.op('minps', x, t, x)
}

/** s·(1 + x·2u′·(1 − s)), s = 1/(1 + exp(−2u)) and u as in `emitGelu`; 1 − s is s·exp(−2u). */
export function emitGeluGrad(m: VectorAssembler, c: Constants): void {
  const slope = 2 * Math.sqrt(2 / Math.PI)
  const [x, e, s, square] = [y(0), y(1), y(4), y(5)]
  emitElements(m, () => {
    emitBetween(m, c, x, tanhEnd, y(2))
    m.op('mulps', square, x, x)
    m.unary('movups', e, c.float(-slope * 0.044715))
    m.op('fmadd213ps', e, square, c.float(-slope))
    m.op('mulps', e, e, x)
    emitExp(m, c, e, y(2), y(3))
    m.op('addps', y(2), e, c.float(1))
    m.unary('movups', s, c.float(1))
    m.op('divps', s, s, y(2))
    m.op('mulps', e, e, s)
    m.unary('movups', y(2), c.float(slope * 3 * 0.044715))
    m.op('fmadd213ps', y(2), square, c.float(slope))
    m.op('mulps', x, x, y(2))
    m.op('fmadd213ps', x, e, c.float(1))
    m.op('mulps', x, x, s)
    m.op('mulps', x, x, at(r9))
  })
}

/** Φ(x) + x·φ(x); Φ(x) is ½ more than what ½ − Φ(−|x|) is with the sign of x. */
export function emitExactGeluGrad(m: VectorAssembler, c: Constants): void {
  const [x, power, tail] = [y(0), y(1), y(6)]
  emitElements(m, () => {
    emitBetween(m, c, x, normalEnd, y(2))
    emitNormalTail(m, c)
    m.unary('movups', y(2), c.float(0.5))
    m.op('subps', tail, y(2), tail)
    m.op('andps', y(3), x, c.bits(0x80000000))
    m.op('xorps', tail, tail, y(3))
    m.op('addps', tail, tail, y(2))
    m.op('mulps', x, x, c.float(1 / Math.sqrt(2 * Math.PI)))
    m.op('fmadd213ps', x, power, tail)
    m.op('mulps', x, x, at(r9))
  })
}

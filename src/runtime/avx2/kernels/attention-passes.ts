// What attention does with a block of keys, and with one of values, for one query.
import { at, r8, r9, r14, r15, rax, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { emitEightRows } from './constants.ts'

/** Numbers of a head that are weighted in one pass over the values. */
const passNumbers = 64

/** The query at rsi times rdx keys at rax, rcx bytes from one to the next, to r15. Overwrites r8, r9 and these but rsi and rcx. */
export function emitScores(m: VectorAssembler, headDim: number): void {
  const [eight, rest, one, done] = [m.label(), m.label(), m.label(), m.label()]
  const [three, six, numbers] = [r8, r9, y(8)]
  m.place(eight)
  m.arithmetic('compare', rdx, 8)
  m.jumpIf('less', rest)
  const keys = emitEightRows(m, { base: rax, stride: rcx, three, six })
  for (let d = 0; d < headDim / 8; d++) {
    const offset = 32 * d
    m.unary('movups', numbers, at(rsi, offset))
    for (const [k, key] of keys(offset).entries()) m.op(d === 0 ? 'mulps' : 'fmadd231ps', y(k), numbers, key)
  }
  for (const step of [1, 2]) {
    for (let k = 0; k < 8; k += 2 * step) m.op('haddps', y(k), y(k), y(k + step))
  }
  m.halves(y(1), y(0), y(4), 0, 2)
  m.halves(y(2), y(0), y(4), 1, 3)
  m.op('addps', y(0), y(1), y(2))
  m.storeVector('movups', at(r15), y(0))
  m.arithmetic('add', r15, 32)
  m.addressOf(rax, { base: rax, index: rcx, scale: 8 })
  m.arithmetic('subtract', rdx, 8)
  m.jump(eight)

  m.place(rest)
  m.arithmetic('compare', rdx, 0)
  m.jumpIf('lessOrEqual', done)
  m.place(one)
  for (let d = 0; d < headDim / 8; d++) {
    m.unary('movups', numbers, at(rsi, 32 * d))
    m.op(d === 0 ? 'mulps' : 'fmadd231ps', y(0), numbers, at(rax, 32 * d))
  }
  // In the order in which eight are added up: bits do not depend on how a prompt is cut.
  m.op('haddps', y(0), y(0), y(0))
  m.op('haddps', y(0), y(0), y(0))
  m.upperHalf(y(1), y(0))
  m.op('addps', y(0), y(0), y(1))
  m.storeFloat(at(r15), y(0))
  m.arithmetic('add', r15, 4)
  m.arithmetic('add', rax, rcx)
  m.arithmetic('subtract', rdx, 1)
  m.jumpIf('notEqual', one)
  m.place(done)
  m.return()
}

/** Adds rdx values at rax, rcx bytes from one to the next, each by its score at r15, to the result at rdi. Overwrites r8, r9 and r14. */
export function emitWeighted(m: VectorAssembler, headDim: number): void {
  for (let from = 0; from < headDim; from += passNumbers) {
    const vectors = Math.min(passNumbers, headDim - from) / 8
    const [value, score, left] = [r8, r9, r14]
    m.addressOf(value, at(rax, 4 * from))
    m.move(score, r15)
    m.move(left, rdx)
    for (let v = 0; v < vectors; v++) m.unary('movups', y(v), at(rdi, 4 * from + 32 * v))
    const more = m.here()
    m.unary('broadcastss', y(15), at(score))
    for (let v = 0; v < vectors; v++) m.op('fmadd231ps', y(v), y(15), at(value, 32 * v))
    m.arithmetic('add', score, 4)
    m.arithmetic('add', value, rcx)
    m.arithmetic('subtract', left, 1)
    m.jumpIf('notEqual', more)
    for (let v = 0; v < vectors; v++) m.storeVector('movups', at(rdi, 4 * from + 32 * v), y(v))
  }
  m.return()
}

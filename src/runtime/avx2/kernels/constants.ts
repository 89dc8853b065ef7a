// Numbers that kernels read from memory, eight beside each other, and what several kernels compute alike.
import assert from 'node:assert/strict'
import type { Address, Register } from '../assembler.ts'
import { at, r14 } from '../assembler.ts'
import type { Vector, VectorAssembler } from '../vectors.ts'

const lanes = 8
const numbersMax = 128

/** Kernels that use constants keep their address in this register. */
export const constantsBase: Register = r14

/** Filled while kernels are assembled; they know where it lies. */
export class Constants {
  readonly numbers = new Float32Array(lanes * numbersMax)
  readonly #bits = new Uint32Array(this.numbers.buffer)
  #used = 0

  float(value: number): Address {
    return this.#put(Array.from({ length: lanes }, () => floatBits(value)))
  }

  bits(value: number): Address {
    return this.#put(Array.from({ length: lanes }, () => value))
  }

  /** The bytes from a vector's first lane to each: 0, 4, … 28, int32. */
  laneBytes(): Address {
    return this.#put(Array.from({ length: lanes }, (_, lane) => 4 * lane))
  }

  #put(values: readonly number[]): Address {
    for (let i = 0; i < this.#used; i++) {
      if (values.every((value, lane) => this.#bits[i * lanes + lane] === value)) return at(constantsBase, 4 * lanes * i)
    }
    assert.ok(this.#used < numbersMax, `kernels have more than ${numbersMax} constants`)
    this.#bits.set(values, this.#used * lanes)
    return at(constantsBase, 4 * lanes * this.#used++)
  }
}

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] as number

/**
 * x = exp(x) in place, to two units in the last place; below −87 and above 88 it is that of these. `a` and `b` are overwritten.
 * Cody & Waite's reduction and the polynomial of Cephes' expf (Moshier 1992).
 */
export function emitExp(m: VectorAssembler, c: Constants, x: Vector, a: Vector, b: Vector): void {
  // Of a number and NaN these answer the second, which is to be NaN.
  m.unary('movups', b, c.float(-87))
  m.op('maxps', x, b, x)
  m.unary('movups', b, c.float(88))
  m.op('minps', x, b, x)
  m.op('mulps', a, x, c.float(Math.LOG2E))
  m.round(a, a)
  m.op('fnmadd231ps', x, a, c.float(0.693359375))
  m.op('fnmadd231ps', x, a, c.float(-2.1219444e-4))
  m.unary('movups', b, c.float(1.98756915e-4))
  for (const coefficient of [1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1])
    m.op('fmadd213ps', b, x, c.float(coefficient))
  // b · x² + x + 1
  m.op('fmadd213ps', b, x, c.float(1))
  m.op('fmadd213ps', b, x, c.float(1))
  m.unary('cvtps2dq', a, a)
  m.shift('pslld', a, a, 23)
  m.op('paddd', x, b, a)
}

const sqrtHalf = 0x3f3504f3

/**
 * x = log(x) in place, to 2^-23 of itself, for normal numbers from 1 on; what is no number stays none. `a`, `b` and `d` are overwritten.
 * x = m · 2^e with √½ ≤ m < √2, and the polynomial of Cephes' logf (Moshier 1992) for log m.
 */
export function emitLog(
  m: VectorAssembler,
  c: Constants,
  x: Vector,
  [a, b, d]: readonly [Vector, Vector, Vector],
): void {
  m.op('paddd', a, x, c.bits(-sqrtHalf >>> 0))
  m.shift('psrld', d, a, 23)
  m.unary('cvtdq2ps', d, d)
  m.op('pand', a, a, c.bits(0x7fffff))
  m.op('paddd', a, a, c.bits(sqrtHalf))
  // x − x: 0, or no number.
  m.op('subps', x, x, x)
  m.op('subps', a, a, c.float(1))
  m.unary('movups', b, c.float(7.0376836292e-2))
  for (const coefficient of [
    -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
    -2.4999993993e-1, 3.3333331174e-1, -0.5,
  ])
    m.op('fmadd213ps', b, a, c.float(coefficient))
  m.op('mulps', b, b, a)
  // b · a + a + x, then what e · log 2 is, in two parts.
  m.op('fmadd213ps', b, a, x)
  m.unary('movups', x, c.float(-2.1219444e-4))
  m.op('fmadd231ps', b, d, x)
  m.op('addps', b, b, a)
  m.unary('movups', x, c.float(0.693359375))
  m.op('fmadd213ps', x, d, b)
}

/** The sum of all lanes in the lowest of x. `t` is overwritten. */
export function emitSum(m: VectorAssembler, x: Vector, t: Vector): void {
  m.upperHalf(t, x)
  m.op('addps', x, x, t)
  m.op('haddps', x, x, x)
  m.op('haddps', x, x, x)
}

/** The largest of all lanes in the lowest of x. `t` is overwritten. */
export function emitLargest(m: VectorAssembler, x: Vector, t: Vector): void {
  m.upperHalf(t, x)
  m.op('maxps', x, x, t)
  m.shuffle(t, x, [2, 3, 0, 1])
  m.op('maxps', x, x, t)
  m.shuffle(t, x, [1, 0, 3, 2])
  m.op('maxps', x, x, t)
}

/** left = the smaller of `all` − from, and `most`: what a chunk has that begins there. `free` is overwritten. */
export function emitRest(
  m: VectorAssembler,
  {
    left,
    free,
    from,
    all,
    most,
  }: Readonly<Record<'left' | 'free' | 'from', Register> & Record<'all' | 'most', Address>>,
): void {
  m.load(left, all)
  m.arithmetic('subtract', left, from)
  m.load(free, most)
  m.atMost(left, free)
}

/** Addresses of eight rows `stride` bytes apart, each so many bytes from its beginning. `three` and `six` are overwritten, and wanted until they are used. */
export function emitEightRows(
  m: VectorAssembler,
  { base, stride, three, six }: Readonly<Record<'base' | 'stride' | 'three' | 'six', Register>>,
): (offset: number) => readonly Address[] {
  m.addressOf(three, { base, index: stride, scale: 2 })
  m.addressOf(six, { base: three, index: stride, scale: 4 })
  m.arithmetic('add', three, stride)
  return (offset) => [
    { base, offset },
    { base, index: stride, scale: 1, offset },
    { base, index: stride, scale: 2, offset },
    { base: three, offset },
    { base, index: stride, scale: 4, offset },
    { base: three, index: stride, scale: 2, offset },
    { base: six, offset },
    { base: three, index: stride, scale: 4, offset },
  ]
}

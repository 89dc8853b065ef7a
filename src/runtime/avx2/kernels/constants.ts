// Numbers that kernels read from memory, eight of each beside each other, and what several kernels compute alike.
import assert from 'node:assert/strict'
import type { Address, Register } from '../assembler.ts'
import { at, r14 } from '../assembler.ts'
import type { Vector, VectorAssembler } from '../vectors.ts'

const lanes = 8
const numbersMax = 64

/** Kernels that use constants keep their address in this register. */
export const constantsBase: Register = r14

/** Filled while kernels are assembled; they know where it lies. */
export class Constants {
  readonly numbers = new Float32Array(lanes * numbersMax)
  readonly #bits = new Uint32Array(this.numbers.buffer)
  #used = 0

  float(value: number): Address {
    return this.#put(new Uint32Array(Float32Array.of(value).buffer)[0] as number)
  }

  bits(value: number): Address {
    return this.#put(value)
  }

  #put(value: number): Address {
    for (let i = 0; i < this.#used; i++) {
      if (this.#bits[i * lanes] === value) return at(constantsBase, 4 * lanes * i)
    }
    assert.ok(this.#used < numbersMax, `kernels have more than ${numbersMax} constants`)
    this.#bits.fill(value, this.#used * lanes, (this.#used + 1) * lanes)
    return at(constantsBase, 4 * lanes * this.#used++)
  }
}

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

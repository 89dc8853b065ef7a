// Instructions on vectors of 256 bits: AVX, AVX2 and FMA, in Intel's names without the leading v.
import { Assembler, type Address, type Register } from './assembler.ts'

/** A vector register: eight float32, eight int32 or sixteen int16; or its lower half. */
export interface Vector {
  readonly vector: number
}

export const y = (number: number): Vector => ({ vector: number })

type Prefix = 0 | 1 | 2 | 3 // none, 66, F3, F2
type Opcode = readonly [prefix: Prefix, map: 1 | 2 | 3, opcode: number]

/** to = a ∘ b, of which b may lie in memory. */
const binary = {
  addps: [0, 1, 0x58],
  subps: [0, 1, 0x5c],
  mulps: [0, 1, 0x59],
  divps: [0, 1, 0x5e],
  minps: [0, 1, 0x5d],
  maxps: [0, 1, 0x5f],
  andps: [0, 1, 0x54],
  andnps: [0, 1, 0x55],
  orps: [0, 1, 0x56],
  xorps: [0, 1, 0x57],
  haddps: [3, 1, 0x7c],
  /** to += a · b */
  fmadd231ps: [1, 2, 0xb8],
  /** to −= a · b */
  fnmadd231ps: [1, 2, 0xbc],
  /** to = a · to + b */
  fmadd213ps: [1, 2, 0xa8],
  paddd: [1, 1, 0xfe],
  /** All bits of a lane where a's int32 is larger. */
  pcmpgtd: [1, 1, 0x66],
  pmaddwd: [1, 1, 0xf5],
  packssdw: [1, 1, 0x6b],
  /** Bytes of a and b by turns, those of a first: the lower eight of each half, or the upper. */
  punpcklbw: [1, 1, 0x60],
  punpckhbw: [1, 1, 0x68],
  /** Lanes of a and b by turns, those of a first: the lower two of each half, or the upper. */
  unpcklps: [0, 1, 0x14],
  unpckhps: [0, 1, 0x15],
  pand: [1, 1, 0xdb],
  pxor: [1, 1, 0xef],
} as const satisfies Record<string, Opcode>

/** Of the lowest float32 alone; the rest comes from a. */
const scalar = {
  addss: [2, 1, 0x58],
  subss: [2, 1, 0x5c],
  mulss: [2, 1, 0x59],
  divss: [2, 1, 0x5e],
  maxss: [2, 1, 0x5f],
  sqrtss: [2, 1, 0x51],
} as const satisfies Record<string, Opcode>

/** to = f(a), which may lie in memory. */
const unary = {
  sqrtps: [0, 1, 0x51],
  cvtdq2ps: [0, 1, 0x5b],
  cvtps2dq: [1, 1, 0x5b],
  broadcastss: [1, 2, 0x18],
  pbroadcastd: [1, 2, 0x58],
  movups: [0, 1, 0x10],
  movdqu: [2, 1, 0x6f],
} as const satisfies Record<string, Opcode>

const store = {
  movups: [0, 1, 0x11],
  movdqu: [2, 1, 0x7f],
} as const satisfies Record<string, Opcode>

/** Each lane by as many bits: opcode and the number that stands in the place of a register. */
const shift = {
  pslld: [0x72, 6],
  psrld: [0x72, 2],
  psllw: [0x71, 6],
  psraw: [0x71, 4],
} as const

/** An assembler that knows vectors. */
export class VectorAssembler extends Assembler {
  op(name: keyof typeof binary, to: Vector, a: Vector, b: Vector | Address): void {
    this.#encode(binary[name], to.vector, a.vector, b)
  }

  scalar(name: keyof typeof scalar, to: Vector, a: Vector, b: Vector | Address): void {
    this.#encode(scalar[name], to.vector, a.vector, b, { isHalf: true })
  }

  unary(name: keyof typeof unary, to: Vector, from: Vector | Address): void {
    this.#encode(unary[name], to.vector, 0, from)
  }

  storeVector(name: keyof typeof store, to: Address, from: Vector): void {
    this.#encode(store[name], from.vector, 0, to)
  }

  /** The lower half. */
  storeHalf(to: Address, from: Vector): void {
    this.#encode(store.movups, from.vector, 0, to, { isHalf: true })
  }

  loadHalf(to: Vector, from: Address): void {
    this.#encode(unary.movups, to.vector, 0, from, { isHalf: true })
  }

  loadFloat(to: Vector, from: Address): void {
    this.#encode([2, 1, 0x10], to.vector, 0, from, { isHalf: true })
  }

  /** The lower 32 bits, with zeros above. */
  fromRegister(to: Vector, { number }: Register): void {
    this.#encode([1, 1, 0x6e], to.vector, 0, y(number), { isHalf: true })
  }

  storeFloat(to: Address, from: Vector): void {
    this.#encode([2, 1, 0x11], from.vector, 0, to, { isHalf: true })
  }

  /** Lanes whose mask has its highest bit; others are left alone in memory. */
  storeMasked(to: Address, mask: Vector, from: Vector): void {
    this.#encode([1, 2, 0x2e], from.vector, mask.vector, to)
  }

  /** Lanes whose mask has its highest bit; others are 0, and their memory is not touched. */
  loadMasked(to: Vector, mask: Vector, from: Address): void {
    this.#encode([1, 2, 0x2c], to.vector, mask.vector, from)
  }

  shift(name: keyof typeof shift, to: Vector, from: Vector, bits: number): void {
    const [opcode, extension] = shift[name]
    this.#encode([1, 1, opcode], extension, to.vector, from)
    this.emit(bits)
  }

  /** To the nearest whole number, of two the even one. */
  round(to: Vector, from: Vector): void {
    this.#encode([1, 3, 0x08], to.vector, 0, from)
    this.emit(0)
  }

  /** Quarters of 64 bits in another order. */
  permute64(to: Vector, from: Vector, order: readonly [number, number, number, number]): void {
    this.#encode([1, 3, 0x00], to.vector, 0, from, { isWide: true })
    this.emit(order.reduce((byte, quarter, i) => byte | (quarter << (2 * i)), 0))
  }

  /** Halves of a (0, 1) and b (2, 3). */
  halves(to: Vector, a: Vector, b: Vector, low: number, high: number): void {
    this.#encode([1, 3, 0x06], to.vector, a.vector, b)
    this.emit(low | (high << 4))
  }

  upperHalf(to: Vector, from: Vector): void {
    this.#encode([1, 3, 0x19], from.vector, 0, to)
    this.emit(1)
  }

  /** Lanes of each half in another order. */
  shuffle(to: Vector, from: Vector, order: readonly [number, number, number, number]): void {
    this.shuffleBoth(to, from, from, order)
  }

  /** Of each half: two lanes of a, behind them two of b. */
  shuffleBoth(to: Vector, a: Vector, b: Vector, order: readonly [number, number, number, number]): void {
    this.#encode([0, 1, 0xc6], to.vector, a.vector, b)
    this.emit(order.reduce((byte, lane, i) => byte | (lane << (2 * i)), 0))
  }

  /** Before code that may use the older vectors. */
  zeroUpper(): void {
    this.emit(0xc5, 0xf8, 0x77)
  }

  #encode(
    [prefix, map, opcode]: Opcode,
    reg: number,
    second: number,
    rm: Vector | Address,
    { isHalf = false, isWide = false } = {},
  ): void {
    const [index, base] = 'vector' in rm ? [0, rm.vector] : [rm.index?.number ?? 0, rm.base.number]
    const inverted = (number: number, bit: number): number => (number > 7 ? 0 : bit)
    this.emit(
      0xc4,
      inverted(reg, 0x80) | inverted(index, 0x40) | inverted(base, 0x20) | map,
      (isWide ? 0x80 : 0) | ((~second & 15) << 3) | (isHalf ? 0 : 4) | prefix,
      opcode,
    )
    if ('vector' in rm) this.emit(0xc0 | ((reg & 7) << 3) | (rm.vector & 7))
    else this.operands(reg, rm)
  }
}

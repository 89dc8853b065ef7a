// Every call of the assembler for vectors, with the instruction that it stands for.
import type { Address, Assembler } from '../../../src/runtime/avx2/assembler.ts'
import type { Vector, VectorAssembler } from '../../../src/runtime/avx2/vectors.ts'
import {
  allAddresses,
  registers,
  someAddresses,
  vector,
  vectorTuples,
  xmm,
  ymm,
  type Instruction,
  type Named,
} from './operands.ts'

type NameOf<Method extends 'op' | 'scalar' | 'unary' | 'storeVector' | 'shift'> = Parameters<VectorAssembler[Method]>[0]

/** With a line for each, the compiler sees when one is missing. */
const binary: Readonly<Record<NameOf<'op'>, null>> = {
  addps: null,
  subps: null,
  mulps: null,
  divps: null,
  minps: null,
  maxps: null,
  andps: null,
  andnps: null,
  orps: null,
  xorps: null,
  haddps: null,
  fmadd231ps: null,
  fnmadd231ps: null,
  fmadd213ps: null,
  paddd: null,
  pcmpgtd: null,
  pmaddwd: null,
  packssdw: null,
  punpcklbw: null,
  punpckhbw: null,
  unpcklps: null,
  unpckhps: null,
  pand: null,
  pxor: null,
}

const scalar: Readonly<Record<NameOf<'scalar'>, null>> = {
  addss: null,
  subss: null,
  mulss: null,
  divss: null,
  maxss: null,
  sqrtss: null,
}

/** What it reads: whole vectors, halves, or one number. */
const unary: Readonly<Record<NameOf<'unary'>, 'YMMWORD' | 'XMMWORD' | 'DWORD'>> = {
  sqrtps: 'YMMWORD',
  cvtdq2ps: 'YMMWORD',
  cvtps2dq: 'YMMWORD',
  broadcastss: 'DWORD',
  pbroadcastd: 'DWORD',
  movups: 'YMMWORD',
  movdqu: 'YMMWORD',
}

const stores: Readonly<Record<NameOf<'storeVector'>, null>> = { movups: null, movdqu: null }
const shifts: Readonly<Record<NameOf<'shift'>, number>> = { pslld: 31, psrld: 31, psllw: 15, psraw: 15 }

/** Bytes of orders are read from the lowest bits on. */
const orders = [
  [[0, 2, 1, 3], 0xd8],
  [[3, 2, 1, 0], 0x1b],
  [[2, 3, 0, 1], 0x4e],
  [[1, 0, 0, 0], 0x01],
] as const

const keysOf = <Key extends string>(table: Readonly<Record<Key, unknown>>): Key[] => Object.keys(table) as Key[]

/** In registers: the text of their numbers, and the call. */
function eachTuple(
  places: number,
  text: (...numbers: number[]) => string,
  emit: (m: VectorAssembler, ...vectors: Vector[]) => void,
): Instruction[] {
  return vectorTuples(places).map((numbers) => ({
    text: text(...numbers),
    emit: (m) => emit(m, ...numbers.map(vector)),
  }))
}

/** With memory: two vectors, one below and one above 7 by turns. */
function eachAddress(
  text: (address: string, a: number, b: number) => string,
  emit: (m: VectorAssembler, address: Address, a: Vector, b: Vector) => void,
  addresses: readonly Named<Address>[] = someAddresses,
): Instruction[] {
  return addresses.map(({ name, operand }, i) => {
    const [a, b] = [(3 + 9 * i) % 16, (12 + 7 * i) % 16]
    return { text: text(name, a, b), emit: (m) => emit(m, operand, vector(a), vector(b)) }
  })
}

/** By the names of the methods. */
export const vectorInstructions = {
  op: [
    ...keysOf(binary).flatMap((name) => [
      ...eachTuple(
        3,
        (to, a, b) => `v${name} ${ymm(to)}, ${ymm(a)}, ${ymm(b)}`,
        (m, to, a, b) => m.op(name, to, a, b),
      ),
      ...eachAddress(
        (address, to, a) => `v${name} ${ymm(to)}, ${ymm(a)}, YMMWORD PTR ${address}`,
        (m, address, to, a) => m.op(name, to, a, address),
      ),
    ]),
    ...eachAddress(
      (address, to, a) => `vaddps ${ymm(to)}, ${ymm(a)}, YMMWORD PTR ${address}`,
      (m, address, to, a) => m.op('addps', to, a, address),
      allAddresses,
    ),
  ],
  scalar: keysOf(scalar).flatMap((name) => [
    ...eachTuple(
      3,
      (to, a, b) => `v${name} ${xmm(to)}, ${xmm(a)}, ${xmm(b)}`,
      (m, to, a, b) => m.scalar(name, to, a, b),
    ),
    ...eachAddress(
      (address, to, a) => `v${name} ${xmm(to)}, ${xmm(a)}, DWORD PTR ${address}`,
      (m, address, to, a) => m.scalar(name, to, a, address),
    ),
  ]),
  unary: keysOf(unary).flatMap((name) => [
    ...eachTuple(
      2,
      (to, from) => `v${name} ${ymm(to)}, ${unary[name] === 'YMMWORD' ? ymm(from) : xmm(from)}`,
      (m, to, from) => m.unary(name, to, from),
    ),
    ...eachAddress(
      (address, to) => `v${name} ${ymm(to)}, ${unary[name]} PTR ${address}`,
      (m, address, to) => m.unary(name, to, address),
    ),
  ]),
  storeVector: keysOf(stores).flatMap((name) =>
    eachAddress(
      (address, from) => `v${name} YMMWORD PTR ${address}, ${ymm(from)}`,
      (m, address, from) => m.storeVector(name, address, from),
    ),
  ),
  storeHalf: eachAddress(
    (address, from) => `vmovups XMMWORD PTR ${address}, ${xmm(from)}`,
    (m, address, from) => m.storeHalf(address, from),
  ),
  loadHalf: eachAddress(
    (address, to) => `vmovups ${xmm(to)}, XMMWORD PTR ${address}`,
    (m, address, to) => m.loadHalf(to, address),
  ),
  loadFloat: eachAddress(
    (address, to) => `vmovss ${xmm(to)}, DWORD PTR ${address}`,
    (m, address, to) => m.loadFloat(to, address),
  ),
  storeFloat: eachAddress(
    (address, from) => `vmovss DWORD PTR ${address}, ${xmm(from)}`,
    (m, address, from) => m.storeFloat(address, from),
  ),
  storeMasked: eachAddress(
    (address, mask, from) => `vmaskmovps YMMWORD PTR ${address}, ${ymm(mask)}, ${ymm(from)}`,
    (m, address, mask, from) => m.storeMasked(address, mask, from),
  ),
  loadMasked: eachAddress(
    (address, to, mask) => `vmaskmovps ${ymm(to)}, ${ymm(mask)}, YMMWORD PTR ${address}`,
    (m, address, to, mask) => m.loadMasked(to, mask, address),
  ),
  fromRegister: registers.flatMap(({ name, operand }, i) =>
    [i % 8, 15 - (i % 8)].map((to) => ({
      text: `vmovd ${xmm(to)}, ${/\d/.test(name) ? `${name}d` : name.replace('r', 'e')}`,
      emit: (m: VectorAssembler) => m.fromRegister(vector(to), operand),
    })),
  ),
  shift: keysOf(shifts).flatMap((name) =>
    [1, 2, shifts[name]].flatMap((bits) =>
      eachTuple(
        2,
        (to, from) => `v${name} ${ymm(to)}, ${ymm(from)}, ${bits}`,
        (m, to, from) => m.shift(name, to, from, bits),
      ),
    ),
  ),
  round: eachTuple(
    2,
    (to, from) => `vroundps ${ymm(to)}, ${ymm(from)}, 0`,
    (m, to, from) => m.round(to, from),
  ),
  permute64: orders.flatMap(([order, byte]) =>
    eachTuple(
      2,
      (to, from) => `vpermq ${ymm(to)}, ${ymm(from)}, ${byte}`,
      (m, to, from) => m.permute64(to, from, order),
    ),
  ),
  halves: (
    [
      [0, 2, 0x20],
      [1, 3, 0x31],
      [3, 0, 0x03],
    ] as const
  ).flatMap(([low, high, byte]) =>
    eachTuple(
      3,
      (to, a, b) => `vperm2f128 ${ymm(to)}, ${ymm(a)}, ${ymm(b)}, ${byte}`,
      (m, to, a, b) => m.halves(to, a, b, low, high),
    ),
  ),
  upperHalf: eachTuple(
    2,
    (to, from) => `vextractf128 ${xmm(to)}, ${ymm(from)}, 1`,
    (m, to, from) => m.upperHalf(to, from),
  ),
  shuffle: orders.flatMap(([order, byte]) =>
    eachTuple(
      2,
      (to, from) => `vshufps ${ymm(to)}, ${ymm(from)}, ${ymm(from)}, ${byte}`,
      (m, to, from) => m.shuffle(to, from, order),
    ),
  ),
  shuffleBoth: orders.flatMap(([order, byte]) =>
    eachTuple(
      3,
      (to, a, b) => `vshufps ${ymm(to)}, ${ymm(a)}, ${ymm(b)}, ${byte}`,
      (m, to, a, b) => m.shuffleBoth(to, a, b, order),
    ),
  ),
  zeroUpper: [{ text: 'vzeroupper', emit: (m) => m.zeroUpper() }],
} satisfies Readonly<Record<Exclude<keyof VectorAssembler, keyof Assembler>, readonly Instruction[]>>

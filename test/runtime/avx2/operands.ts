// Registers and addresses as instructions take them, with what they are called in Intel's syntax.
import * as assembler from '../../../src/runtime/avx2/assembler.ts'
import { at, type Address, type Register } from '../../../src/runtime/avx2/assembler.ts'
import { y, type Vector, type VectorAssembler } from '../../../src/runtime/avx2/vectors.ts'

/** A call of the assembler, and what it means to GNU as. Lines are apart by a semicolon. */
export interface Instruction {
  readonly text: string
  readonly emit: (m: VectorAssembler) => void
}

export interface Named<Operand> {
  readonly name: string
  readonly operand: Operand
}

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = assembler
const byName = { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 }

/** In the processor's order. */
export const registers: readonly Named<Register>[] = Object.entries(byName).map(([name, operand]) => ({
  name,
  operand,
}))

const named = (register: Register): string => registers.find(({ operand }) => operand === register)?.name as string

/** Pairs of registers: below and above 7 in every place, and those that are special as a base. */
export const registerPairs: readonly (readonly [Named<Register>, Named<Register>])[] = [
  [rax, rdi],
  [rdi, rax],
  [rcx, r8],
  [r15, rdx],
  [r9, r14],
  [rsp, rbp],
  [r12, r13],
  [rbp, r12],
].map(([a, b]) => [
  { name: named(a as Register), operand: a as Register },
  { name: named(b as Register), operand: b as Register },
])

/** So many vectors for each place, below and above 7 in every combination, and all of them the same. */
export function vectorTuples(places: number): readonly (readonly number[])[] {
  const combinations = Array.from({ length: 2 ** places }, (_, bits) =>
    Array.from({ length: places }, (_, place) => 1 + 2 * place + ((bits >> place) & 1 ? 8 : 0)),
  )
  return [...combinations, Array.from({ length: places }, () => 0), Array.from({ length: places }, () => 15)]
}

export const vector = (number: number): Vector => y(number)
export const ymm = (number: number): string => `ymm${number}`
export const xmm = (number: number): string => `xmm${number}`

function nameOf({ base, index, scale = 1, offset = 0 }: Address): string {
  const sign = offset < 0 ? '-' : '+'
  const behind = offset === 0 ? '' : `${sign}0x${Math.abs(offset).toString(16)}`
  return `[${named(base)}${index === undefined ? '' : `+${named(index)}*${scale}`}${behind}]`
}

const address = (operand: Address): Named<Address> => ({ name: nameOf(operand), operand })

/** On both sides of where an offset is a byte, and as large as four bytes hold. */
const offsets = [1, -1, 127, 128, -128, -129, 0x12345678, -0x12345678, 2 ** 31 - 1, -(2 ** 31)]
/** Each wants another form of an address without an index, or may be mistaken for one that does. */
const bases = [rax, rbp, rsp, r12, r13]
const scales = [1, 2, 4, 8] as const

/** Every register as a base and as an index, every scale, and every kind of offset. */
export const allAddresses: readonly Named<Address>[] = [
  ...registers.map(({ operand }) => at(operand)),
  ...bases.flatMap((base) => offsets.map((offset) => at(base, offset))),
  ...registers.filter(({ operand }) => operand !== rsp).map(({ operand: index }) => ({ base: rdx, index })),
  ...[rbp, rsp, rbx, r8, r12, r13].flatMap((base) =>
    [rbp, r12, r9].flatMap((index) => scales.map((scale) => ({ base, index, scale }))),
  ),
  ...scales.flatMap((scale) => offsets.map((offset) => ({ base: r13, index: rsi, scale, offset }))),
].map(address)

/** One of each kind. */
export const someAddresses: readonly Named<Address>[] = [
  at(rax),
  at(rbp),
  at(rsp, 8),
  at(r12, 127),
  at(r13, -129),
  { base: rsp, index: r9, scale: 8 as const, offset: -128 },
  { base: r15, index: rcx, scale: 2 as const, offset: 128 },
].map(address)

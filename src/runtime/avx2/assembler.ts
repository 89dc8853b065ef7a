// Machine code of x86-64 as bytes: general registers, addresses, jumps and labels.
import assert from 'node:assert/strict'

/** A general register of 64 bits, as the processor numbers them. */
export interface Register {
  readonly number: number
}

const register = (number: number): Register => ({ number })
export const rax = register(0)
export const rcx = register(1)
export const rdx = register(2)
export const rbx = register(3)
export const rsp = register(4)
export const rbp = register(5)
export const rsi = register(6)
export const rdi = register(7)
export const r8 = register(8)
export const r9 = register(9)
export const r10 = register(10)
export const r11 = register(11)
export const r12 = register(12)
export const r13 = register(13)
export const r14 = register(14)
export const r15 = register(15)

/** Memory at base + index · scale + offset, in bytes. */
export interface Address {
  readonly base: Register
  readonly index?: Register
  readonly scale?: 1 | 2 | 4 | 8
  readonly offset?: number
}

export const at = (base: Register, offset = 0): Address => ({ base, offset })

/** A place in the code that jumps go to, known once `place` was called. */
export interface Label {
  at: number | null
  readonly wanted: number[]
}

/** Of the last comparison; `below` and `aboveOrEqual` take numbers as unsigned. */
const conditions = {
  equal: 4,
  notEqual: 5,
  below: 2,
  aboveOrEqual: 3,
  less: 12,
  greaterOrEqual: 13,
  lessOrEqual: 14,
  greater: 15,
}
export type Condition = keyof typeof conditions

/** Instructions with two operands that have an opcode for a register and a number behind `81 /extension`. */
const arithmetic = { add: [0x01, 0], or: [0x09, 1], and: [0x21, 4], subtract: [0x29, 5], compare: [0x39, 7] } as const
export type Arithmetic = keyof typeof arithmetic

export class Assembler {
  readonly #bytes: number[] = []
  /** Labels that are wanted, and have no place yet. */
  readonly #open = new Set<Label>()

  /** Of everything so far. Throws where a label that is jumped to was never placed. */
  bytes(): Uint8Array {
    assert.equal(this.#open.size, 0, 'a label was never placed')
    return Uint8Array.from(this.#bytes)
  }

  /** Where the next instruction begins. */
  get size(): number {
    return this.#bytes.length
  }

  emit(...bytes: readonly number[]): void {
    this.#bytes.push(...bytes)
  }

  label(): Label {
    return { at: null, wanted: [] }
  }

  /** A label at this place, for loops. */
  here(): Label {
    const label = this.label()
    this.place(label)
    return label
  }

  place(label: Label): void {
    assert.ok(label.at === null, 'a label has one place')
    label.at = this.size
    this.#open.delete(label)
    for (const from of label.wanted) this.#patch(from, label.at)
  }

  jump(label: Label): void {
    this.emit(0xe9)
    this.#distance(label)
  }

  jumpIf(condition: Condition, label: Label): void {
    this.emit(0x0f, 0x80 | conditions[condition])
    this.#distance(label)
  }

  call(label: Label): void {
    this.emit(0xe8)
    this.#distance(label)
  }

  callAt(address: Register): void {
    this.#rex(0, 0, address.number, false)
    this.emit(0xff, 0xd0 | (address.number & 7))
  }

  return(): void {
    this.emit(0xc3)
  }

  push(...registers: readonly Register[]): void {
    for (const { number } of registers) {
      this.#rex(0, 0, number, false)
      this.emit(0x50 | (number & 7))
    }
  }

  /** In the order in which they were pushed. */
  pop(...registers: readonly Register[]): void {
    for (const { number } of registers.toReversed()) {
      this.#rex(0, 0, number, false)
      this.emit(0x58 | (number & 7))
    }
  }

  move(to: Register, from: Register | bigint | number): void {
    if (typeof from !== 'object') {
      this.emit(0x48 | (to.number >> 3), 0xb8 | (to.number & 7))
      let rest = BigInt.asUintN(64, BigInt(from))
      for (let byte = 0; byte < 8; byte++, rest >>= 8n) this.emit(Number(rest & 255n))
    } else this.#registers(0x89, from, to)
  }

  /** The smaller of both, which have signs. */
  atMost(to: Register, limit: Register | number): void {
    const fits = this.label()
    this.arithmetic('compare', to, limit)
    this.jumpIf('lessOrEqual', fits)
    this.move(to, limit)
    this.place(fits)
  }

  /** 64 bits. */
  load(to: Register, from: Address): void {
    this.#memory(0x8b, to, from)
  }

  store(to: Address, from: Register): void {
    this.#memory(0x89, from, to)
  }

  /** 32 bits with a sign. */
  loadInt(to: Register, from: Address): void {
    this.#memory(0x63, to, from)
  }

  /** The address itself. */
  addressOf(to: Register, from: Address): void {
    this.#memory(0x8d, to, from)
  }

  arithmetic(what: Arithmetic, to: Register, from: Register | number): void {
    const [opcode, extension] = arithmetic[what]
    if (typeof from === 'object') return this.#registers(opcode, from, to)
    this.#rex(0, 0, to.number, true)
    this.emit(0x81, 0xc0 | (extension << 3) | (to.number & 7))
    this.#int(from)
  }

  /** Compares with 64 bits of memory. */
  compareAt(left: Register, right: Address): void {
    this.#memory(0x3b, left, right)
  }

  addAt(to: Register, from: Address): void {
    this.#memory(0x03, to, from)
  }

  multiply(to: Register, from: Register | number): void {
    if (typeof from === 'object') {
      this.#rex(to.number, 0, from.number, true)
      return this.emit(0x0f, 0xaf, 0xc0 | ((to.number & 7) << 3) | (from.number & 7))
    }
    this.#rex(to.number, 0, to.number, true)
    this.emit(0x69, 0xc0 | ((to.number & 7) << 3) | (to.number & 7))
    this.#int(from)
  }

  multiplyAt(to: Register, from: Address): void {
    this.#prefix(to.number, from, true)
    this.emit(0x0f, 0xaf)
    this.operands(to.number, from)
  }

  shiftLeft(to: Register, bits: number): void {
    this.#rex(0, 0, to.number, true)
    this.emit(0xc1, 0xe0 | (to.number & 7), bits)
  }

  shiftRight(to: Register, bits: number): void {
    this.#rex(0, 0, to.number, true)
    this.emit(0xc1, 0xe8 | (to.number & 7), bits)
  }

  /** rax and rdx by `divisor`, unsigned: the quotient in rax, the rest in rdx. */
  divide(divisor: Register): void {
    this.#rex(0, 0, divisor.number, true)
    this.emit(0xf7, 0xf0 | (divisor.number & 7))
  }

  /** Adds `register` to memory that others may add to at once; the register holds what was there. */
  fetchAdd(to: Address, value: Register): void {
    this.emit(0xf0)
    this.#prefix(value.number, to, true)
    this.emit(0x0f, 0xc1)
    this.operands(value.number, to)
  }

  /** Asks the system for what rax says, of rdi, rsi and rdx; overwrites rcx, r11 and, with the answer, rax. */
  systemCall(): void {
    this.emit(0x0f, 0x05)
  }

  /** Tells the processor that this is a loop that waits. */
  pause(): void {
    this.emit(0xf3, 0x90)
  }

  /** The line of memory is wanted soon. */
  prefetch(from: Address): void {
    this.#prefix(0, from, false)
    this.emit(0x0f, 0x18)
    this.operands(1, from)
  }

  /** Mod, register and memory of an instruction, once its prefix and opcode are out. */
  operands(reg: number, { base, index, scale = 1, offset = 0 }: Address): void {
    const field = (reg & 7) << 3
    const isShort = offset >= -128 && offset <= 127
    // Without an offset, base 5 would mean something else.
    const mode = offset === 0 && (base.number & 7) !== 5 ? 0 : isShort ? 0x40 : 0x80
    if (index !== undefined || (base.number & 7) === 4) {
      assert.ok(index !== rsp, 'rsp is no index')
      const of = index === undefined ? 4 : index.number & 7
      this.emit(mode | field | 4, (Math.log2(scale) << 6) | (of << 3) | (base.number & 7))
    } else this.emit(mode | field | (base.number & 7))
    if (mode === 0x40) this.emit(offset & 255)
    if (mode === 0x80) this.#int(offset)
  }

  #registers(opcode: number, reg: Register, rm: Register): void {
    this.#rex(reg.number, 0, rm.number, true)
    this.emit(opcode, 0xc0 | ((reg.number & 7) << 3) | (rm.number & 7))
  }

  #memory(opcode: number, reg: Register, address: Address): void {
    this.#prefix(reg.number, address, true)
    this.emit(opcode)
    this.operands(reg.number, address)
  }

  #prefix(reg: number, { base, index }: Address, isWide: boolean): void {
    this.#rex(reg, index?.number ?? 0, base.number, isWide)
  }

  #rex(reg: number, index: number, base: number, isWide: boolean): void {
    const rex = 0x40 | (isWide ? 8 : 0) | ((reg >> 3) << 2) | ((index >> 3) << 1) | (base >> 3)
    if (rex !== 0x40) this.emit(rex)
  }

  #int(value: number): void {
    assert.ok(value === (value | 0), `${value} does not fit into 32 bits`)
    this.emit(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255)
  }

  #distance(label: Label): void {
    const from = this.size
    this.emit(0, 0, 0, 0)
    if (label.at === null) {
      label.wanted.push(from)
      this.#open.add(label)
    } else this.#patch(from, label.at)
  }

  /** Distances are from behind the four bytes that hold them. */
  #patch(from: number, to: number): void {
    const distance = to - (from + 4)
    for (let byte = 0; byte < 4; byte++) this.#bytes[from + byte] = (distance >> (8 * byte)) & 255
  }
}

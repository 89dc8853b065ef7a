// Every call of the assembler for general registers, with the instruction that it stands for.
import { rax, rcx, rsp, r8, type Arithmetic, type Condition } from '../../../src/runtime/avx2/assembler.ts'
import type { Address, Assembler, Register } from '../../../src/runtime/avx2/assembler.ts'
import type { VectorAssembler } from '../../../src/runtime/avx2/vectors.ts'
import { allAddresses, registerPairs, registers, someAddresses, type Instruction, type Named } from './operands.ts'

const arithmetic: Readonly<Record<Arithmetic, string>> = {
  add: 'add',
  or: 'or',
  and: 'and',
  subtract: 'sub',
  compare: 'cmp',
}

const conditions: Readonly<Record<Condition, string>> = {
  equal: 'je',
  notEqual: 'jne',
  below: 'jb',
  aboveOrEqual: 'jae',
  less: 'jl',
  greaterOrEqual: 'jge',
  lessOrEqual: 'jle',
  greater: 'jg',
}

/** What fits into a byte, what does not, and the ends of four bytes. */
const numbers = [0, 1, -1, 127, 128, -128, -129, 1000, 0x12345678, 2 ** 31 - 1, -(2 ** 31)]
const wideNumbers = [...numbers, 2n ** 32n, 0x123456789abcdef0n, 2n ** 63n - 1n, -(2n ** 63n)]
/** Bytes that lie between a jump and where it goes. */
const distances = [0, 1, 127, 128]
const filler = 0xcc

const eachRegister = (text: (name: string) => string, emit: (m: VectorAssembler, r: Register) => void): Instruction[] =>
  registers.map(({ name, operand }) => ({ text: text(name), emit: (m) => emit(m, operand) }))

const eachPair = (
  text: (a: string, b: string) => string,
  emit: (m: VectorAssembler, a: Register, b: Register) => void,
): Instruction[] =>
  registerPairs.map(([a, b]) => ({ text: text(a.name, b.name), emit: (m) => emit(m, a.operand, b.operand) }))

function eachAddress(
  text: (address: string, register: string) => string,
  emit: (m: VectorAssembler, address: Address, register: Register) => void,
  addresses: readonly Named<Address>[] = someAddresses,
): Instruction[] {
  const places = addresses.map((address, i) => [address, registers[(5 * i) % 16] as Named<Register>] as const)
  return places.map(([address, register]) => ({
    text: text(address.name, register.name),
    emit: (m) => emit(m, address.operand, register.operand),
  }))
}

/** Forward over so many bytes, and back over them. */
function eachDistance(
  mnemonic: string,
  jump: (m: VectorAssembler, label: ReturnType<Assembler['label']>) => void,
): Instruction[] {
  const fill = (m: VectorAssembler, bytes: number): void => m.emit(...Array.from({ length: bytes }, () => filler))
  return distances.flatMap((bytes) => [
    {
      text: `${mnemonic} 1f; .fill ${bytes}, 1, 0xcc; 1: ret`,
      emit: (m) => {
        const label = m.label()
        jump(m, label)
        fill(m, bytes)
        m.place(label)
        m.return()
      },
    },
    {
      text: `1: .fill ${bytes}, 1, 0xcc; ${mnemonic} 1b`,
      emit: (m) => {
        const label = m.here()
        fill(m, bytes)
        jump(m, label)
      },
    },
  ])
}

const eachNumber = (r: Register, name: string, mnemonic: string, what: Arithmetic): Instruction[] =>
  numbers.map((number) => ({ text: `${mnemonic} ${name}, ${number}`, emit: (m) => m.arithmetic(what, r, number) }))

/** By the names of the methods. */
export const generalInstructions = {
  emit: [{ text: 'int3', emit: (m) => m.emit(0xcc) }],
  operands: eachAddress(
    (address, register) => `mov ${register}, QWORD PTR ${address}`,
    (m, address, register) => m.load(register, address),
    allAddresses,
  ),
  label: eachDistance('jmp', (m, label) => m.jump(label)),
  // Several jumps to one label, on both sides of it.
  place: [
    {
      text: 'je 1f; jmp 1f; 1: ret; jne 1b; jmp 1b',
      emit: (m) => {
        const label = m.label()
        m.jumpIf('equal', label)
        m.jump(label)
        m.place(label)
        m.return()
        m.jumpIf('notEqual', label)
        m.jump(label)
      },
    },
  ],
  here: [
    {
      text: '1: sub rcx, 1; jne 1b',
      emit: (m) => {
        const label = m.here()
        m.arithmetic('subtract', rcx, 1)
        m.jumpIf('notEqual', label)
      },
    },
  ],
  jump: eachDistance('jmp', (m, label) => m.jump(label)),
  jumpIf: Object.entries(conditions).flatMap(([condition, mnemonic]) =>
    eachDistance(mnemonic, (m, label) => m.jumpIf(condition as Condition, label)),
  ),
  call: eachDistance('call', (m, label) => m.call(label)),
  callAt: eachRegister(
    (name) => `call ${name}`,
    (m, r) => m.callAt(r),
  ),
  return: [{ text: 'ret', emit: (m) => m.return() }],
  push: [
    ...eachRegister(
      (name) => `push ${name}`,
      (m, r) => m.push(r),
    ),
    { text: 'push rax; push r8; push rcx', emit: (m) => m.push(rax, r8, rcx) },
  ],
  pop: [
    ...eachRegister(
      (name) => `pop ${name}`,
      (m, r) => m.pop(r),
    ),
    { text: 'pop rcx; pop r8; pop rax', emit: (m) => m.pop(rax, r8, rcx) },
  ],
  move: [
    ...eachPair(
      (a, b) => `mov ${a}, ${b}`,
      (m, a, b) => m.move(a, b),
    ),
    ...eachRegister(
      (name) => `movabs ${name}, 0x123456789abcdef0`,
      (m, r) => m.move(r, 0x123456789abcdef0n),
    ),
    ...wideNumbers.map((number): Instruction => ({ text: `movabs r8, ${number}`, emit: (m) => m.move(r8, number) })),
  ],
  atMost: [
    ...eachPair(
      (a, b) => `cmp ${a}, ${b}; jle 1f; mov ${a}, ${b}; 1:`,
      (m, a, b) => m.atMost(a, b),
    ),
    { text: 'cmp rcx, 1000; jle 1f; movabs rcx, 1000; 1:', emit: (m) => m.atMost(rcx, 1000) },
    { text: 'cmp r8, 128; jle 1f; movabs r8, 128; 1:', emit: (m) => m.atMost(r8, 128) },
  ],
  load: eachAddress(
    (address, register) => `mov ${register}, QWORD PTR ${address}`,
    (m, address, register) => m.load(register, address),
  ),
  store: eachAddress(
    (address, register) => `mov QWORD PTR ${address}, ${register}`,
    (m, address, register) => m.store(address, register),
  ),
  loadInt: eachAddress(
    (address, register) => `movsxd ${register}, DWORD PTR ${address}`,
    (m, address, register) => m.loadInt(register, address),
  ),
  addressOf: eachAddress(
    (address, register) => `lea ${register}, ${address}`,
    (m, address, register) => m.addressOf(register, address),
  ),
  arithmetic: Object.entries(arithmetic).flatMap(([what, mnemonic]) => [
    ...eachPair(
      (a, b) => `${mnemonic} ${a}, ${b}`,
      (m, a, b) => m.arithmetic(what as Arithmetic, a, b),
    ),
    ...eachNumber(rax, 'rax', mnemonic, what as Arithmetic),
    ...eachNumber(r8, 'r8', mnemonic, what as Arithmetic),
    ...eachNumber(rsp, 'rsp', mnemonic, what as Arithmetic),
  ]),
  compareAt: eachAddress(
    (address, register) => `cmp ${register}, QWORD PTR ${address}`,
    (m, address, register) => m.compareAt(register, address),
  ),
  addAt: eachAddress(
    (address, register) => `add ${register}, QWORD PTR ${address}`,
    (m, address, register) => m.addAt(register, address),
  ),
  multiply: [
    ...eachPair(
      (a, b) => `imul ${a}, ${b}`,
      (m, a, b) => m.multiply(a, b),
    ),
    ...eachRegister(
      (name) => `imul ${name}, ${name}, 1000`,
      (m, r) => m.multiply(r, 1000),
    ),
    ...numbers.map((number): Instruction => ({ text: `imul r8, r8, ${number}`, emit: (m) => m.multiply(r8, number) })),
  ],
  multiplyAt: eachAddress(
    (address, register) => `imul ${register}, QWORD PTR ${address}`,
    (m, address, register) => m.multiplyAt(register, address),
  ),
  shiftLeft: [2, 63].flatMap((bits) =>
    eachRegister(
      (name) => `shl ${name}, ${bits}`,
      (m, r) => m.shiftLeft(r, bits),
    ),
  ),
  shiftRight: [1, 2, 63].flatMap((bits) =>
    eachRegister(
      (name) => `shr ${name}, ${bits}`,
      (m, r) => m.shiftRight(r, bits),
    ),
  ),
  divide: eachRegister(
    (name) => `div ${name}`,
    (m, r) => m.divide(r),
  ),
  fetchAdd: eachAddress(
    (address, register) => `lock xadd QWORD PTR ${address}, ${register}`,
    (m, address, register) => m.fetchAdd(address, register),
  ),
  systemCall: [{ text: 'syscall', emit: (m) => m.systemCall() }],
  pause: [{ text: 'pause', emit: (m) => m.pause() }],
  prefetch: eachAddress(
    (address) => `prefetcht0 BYTE PTR ${address}`,
    (m, address) => m.prefetch(address),
  ),
} satisfies Readonly<Record<Exclude<keyof Assembler, 'bytes' | 'size'>, readonly Instruction[]>>

// Machine code that we assemble ourselves is what GNU as makes of the same instructions, or what objdump reads as them.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { rsp, rax, Assembler } from '../../../src/runtime/avx2/assembler.ts'
import { VectorAssembler } from '../../../src/runtime/avx2/vectors.ts'
import { generalInstructions } from './general-instructions.ts'
import type { Instruction } from './operands.ts'
import { vectorInstructions } from './vector-instructions.ts'

/** Bytes in hexadecimal by text: those that GNU as makes too, and others that objdump reads as what GNU as makes. */
interface Golden {
  readonly assembled: Readonly<Record<string, string>>
  readonly read: Readonly<Record<string, string>>
}

const golden = JSON.parse(await readFile('test/golden/x86/golden.json', 'utf8')) as Golden
const known = new Map([...Object.entries(golden.assembled), ...Object.entries(golden.read)])
const all: readonly (readonly [string, readonly Instruction[]])[] = [
  ...Object.entries(generalInstructions),
  ...Object.entries(vectorInstructions),
]

for (const [method, instructions] of all) {
  test(`${method}: ${instructions.length} instructions have the bytes that binutils give or read`, () => {
    assert.ok(instructions.length > 0)
    for (const { text, emit } of instructions) {
      const m = new VectorAssembler()
      emit(m)
      assert.equal(Buffer.from(m.bytes()).toString('hex'), known.get(text), text)
    }
  })
}

test('the golden file has no instruction that is not made here', () => {
  const made = new Set(all.flatMap(([, instructions]) => instructions.map(({ text }) => text)))
  assert.deepEqual(
    [...known.keys()].filter((text) => !made.has(text)),
    [],
  )
  assert.ok(made.size > 1000)
})

test('a jump over 100000 bytes goes as far in both directions, and the size counts what is out', () => {
  const m = new Assembler()
  const [end, start] = [m.label(), m.here()]
  m.jump(end)
  for (let i = 0; i < 100_000; i++) m.emit(0x90)
  m.jump(start)
  m.place(end)
  assert.equal(m.size, 100_010)
  const view = new DataView(m.bytes().buffer)
  assert.equal(view.getInt32(1, true), 100_005)
  assert.equal(view.getInt32(100_006, true), -100_010)
})

test('a label has one place, and rsp is no index', () => {
  const m = new Assembler()
  const label = m.here()
  assert.throws(() => m.place(label), /one place/)
  assert.throws(() => m.load(rax, { base: rax, index: rsp }), /no index/)
})

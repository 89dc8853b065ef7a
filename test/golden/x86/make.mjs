// Writes golden.json: what GNU as makes of every instruction of the assembler's tests, or objdump reads in our bytes of it.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { VectorAssembler } from '../../../dist/src/runtime/avx2/vectors.js'
import { generalInstructions } from '../../../dist/test/runtime/avx2/general-instructions.js'
import { vectorInstructions } from '../../../dist/test/runtime/avx2/vector-instructions.js'

const folder = mkdtempSync(path.join(tmpdir(), 'preamble-x86-'))
const [source, object, binary] = ['code.s', 'code.o', 'code.bin'].map((name) => path.join(folder, name))

/** We always take the longer prefix of vectors, and distances of four bytes: so GNU as is asked for these. */
function asked(text) {
  return text
    .split('; ')
    .map((line) => line.replace(/^((?:1: )?)(j|call \d)/, '$1{disp32} $2').replace(/^v(?!zeroupper)/, '{vex3} v'))
    .join('\n')
}

function assemble(text) {
  writeFileSync(source, `.intel_syntax noprefix\n${asked(text)}\n`)
  execFileSync('as', ['--fatal-warnings', '-o', object, source])
  execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary])
  return readFileSync(binary)
}

/** Without addresses and bytes. A shift by one has an opcode of its own, and objdump tells them apart. */
function disassemble(bytes) {
  writeFileSync(binary, bytes)
  const options = ['-D', '-b', 'binary', '-m', 'i386:x86-64', '-M', 'intel', '--no-show-raw-insn']
  const lines = execFileSync('objdump', [...options, binary], { encoding: 'utf8' }).split('\n')
  return lines
    .filter((line) => /^ +[0-9a-f]+:/.test(line))
    .map((line) => line.replace(/^ +[0-9a-f]+:\s*/, '').replace(/\s+/g, ' ').replace(/^(sh[lr] \w+),0x1$/, '$1,1'))
    .join('; ')
}

const golden = { assembled: {}, read: {} }
try {
  for (const { text, emit } of Object.values({ ...generalInstructions, ...vectorInstructions }).flat()) {
    const m = new VectorAssembler()
    emit(m)
    const [ours, theirs] = [Buffer.from(m.bytes()), assemble(text)]
    const isSame = ours.equals(theirs)
    if (!isSame && disassemble(ours) !== disassemble(theirs))
      throw new Error(`${text}: ${ours.toString('hex')} is ${disassemble(ours)}, not ${disassemble(theirs)}`)
    golden[isSame ? 'assembled' : 'read'][text] = ours.toString('hex')
  }
} finally {
  rmSync(folder, { recursive: true })
}
writeFileSync(new URL('golden.json', import.meta.url), `${JSON.stringify(golden, null, 1)}\n`)

// Whether this machine can compute in words: what is answered agrees with what the system says of its processor.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { wordsProblem } from '../../../src/runtime/avx2/available.ts'
import { isUsable } from '../../../src/runtime/onnx/measure-decoding.ts'

const cpu = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : ''
const isX64 = process.platform === 'linux' && process.arch === 'x64'
const hasInstructions = isX64 && / avx2( |$)/m.test(cpu) && / fma( |$)/m.test(cpu)

test('a processor with avx2 and fma under Linux can, and computes rightly; any other cannot, and it is said why', async (t) => {
  const problem = await wordsProblem()
  if (!isX64) return assert.match(problem as string, /x86-64 on Linux/)
  if (!hasInstructions) return assert.match(problem as string, /the processor lacks/)
  // A system may forbid code that was not loaded from a file.
  if (problem?.startsWith('the system ')) return t.skip(problem)
  assert.equal(problem, null)
})

test('it is found out once, and forms are usable accordingly', async () => {
  assert.equal(wordsProblem(), wordsProblem())
  assert.equal(await isUsable('words', 1), (await wordsProblem()) === null)
})

// Thousands of damaged safetensors files: each is refused with a SafetensorsError or read into something consistent.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { readSafetensors, SafetensorsError, writeSafetensors } from '../../src/tensor/safetensors.ts'

const seed = Number(process.env['FUZZ_SEED'] ?? 20261)
const rounds = 5_000

function validFile(random: Random): Uint8Array {
  const count = 1 + random.below(4)
  const tensors = Array.from({ length: count }, (_, i) => {
    const shape = Array.from({ length: random.below(4) }, () => random.below(4))
    const size = shape.reduce((product, extent) => product * extent, 1)
    return { name: `tensor.${i}`, dtype: 'F32' as const, shape, data: new Float32Array(size).fill(random.next()) }
  })
  return writeSafetensors(tensors, random.below(2) === 0 ? { format: 'test', version: '1' } : {})
}

/** Turns, cuts, doubles or replaces bytes; header characters are replaced by others that JSON knows. */
function damage(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length)
  const damaged = new Uint8Array(bytes)
  switch (random.below(5)) {
    case 0:
      damaged[at] = random.below(256)
      return damaged
    case 1: {
      const alphabet = '{}[]",:0123456789-.eE\\F32 '
      damaged[at] = alphabet.charCodeAt(random.below(alphabet.length))
      return damaged
    }
    case 2:
      return damaged.subarray(0, at)
    case 3: {
      const length = 1 + random.below(Math.min(64, bytes.length - at))
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)])
    }
    default:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(16))])
  }
}

test(`damaged files are refused or read consistently (FUZZ_SEED=${seed})`, () => {
  const random = new Random(seed)
  let refused = 0
  for (let round = 0; round < rounds; round++) {
    let bytes = validFile(random)
    for (let i = 1 + random.below(3); i > 0 && bytes.length > 0; i--) bytes = damage(bytes, random)
    try {
      const { tensors, metadata } = readSafetensors(bytes)
      let total = 0
      for (const tensor of tensors.values()) total += tensor.bytes.length
      const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
      assert.equal(8 + headerLength + total, bytes.length, `round ${round}`)
      assert.ok(Object.values(metadata).every((value) => typeof value === 'string'))
    } catch (error) {
      if (!(error instanceof SafetensorsError)) throw new Error(`round ${round} of seed ${seed}`, { cause: error })
      refused++
    }
  }
  // Damage to the numbers alone leaves a valid file, so some get through.
  assert.ok(refused > rounds / 4 && refused < rounds, `${refused} of ${rounds} refused`)
})

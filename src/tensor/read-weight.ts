// The bytes of a frozen weight, read from its file, and its numbers in float32.
import assert from 'node:assert/strict'
import { closeSync, openSync, readSync } from 'node:fs'
import path from 'node:path'
import { widenBfloat16, widenFloat16 } from './half.ts'
import type { Weight } from './weights.ts'

/** Node reads at most 2 GiB at a time. */
const readMax = 2 ** 30

export function readWeight(folder: string, { file, offset, bytes, name }: Weight): Uint8Array {
  const data = new Uint8Array(bytes)
  const handle = openSync(path.join(folder, file), 'r')
  try {
    for (let at = 0; at < bytes; ) {
      const read = readSync(handle, data, at, Math.min(readMax, bytes - at), offset + at)
      if (read === 0) throw new Error(`${file} ends inside of weight ${name}`)
      at += read
    }
  } finally {
    closeSync(handle)
  }
  return data
}

/** `bytes` of the weight, or of its beginning. */
export function widened({ dtype, name }: Pick<Weight, 'dtype' | 'name'>, bytes: Uint8Array): Float32Array {
  if (dtype === 'float32') return new Float32Array(bytes.buffer)
  assert.ok(dtype === 'bfloat16' || dtype === 'float16', `weight ${name} is ${dtype}, which no GPU product takes`)
  const halves = new Uint16Array(bytes.buffer)
  return dtype === 'bfloat16' ? widenBfloat16(halves) : widenFloat16(halves)
}

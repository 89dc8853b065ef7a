// Memory for weights: pieces of slabs that begin on lines of the caches, hold zeros, and never share a byte.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../../src/random/random.ts'
import { LargePages } from '../../../src/runtime/avx2/large-pages.ts'
import { addressOf } from '../../../src/runtime/avx2/machine-code.ts'
import { seed, skip } from './run-graph.ts'

const [line, slab] = [64n, 32 * 1024 ** 2]

test('200 pieces of all sizes, one of them larger than a slab, lie apart on lines and are empty', { skip }, () => {
  const random = new Random(seed)
  const pages = new LargePages()
  const pieces = Array.from({ length: 200 }, (_, i) => {
    const bytes = i === 77 ? slab + 1 : 1 + random.below(i % 10 === 0 ? 4_000_000 : 5000)
    const piece = pages.allocate(bytes)
    assert.equal(piece.length, bytes)
    // At both ends: to touch all of them would take memory that nobody needs.
    const ends = [piece.subarray(0, 100), piece.subarray(-100)]
    assert.ok(ends.every((end) => end.every((byte) => byte === 0)))
    for (const end of ends) end.fill(i + 1)
    return { piece, from: addressOf(piece), to: addressOf(piece) + BigInt(bytes) }
  })
  for (const { from } of pieces) assert.equal(from % line, 0n)
  const inOrder = pieces.toSorted((a, b) => (a.from < b.from ? -1 : 1))
  for (const [i, { from }] of inOrder.entries())
    assert.ok(i === 0 || from >= inOrder[i - 1]!.to, `piece ${i} begins in another, SEED=${seed}`)
})

// What a table of n-grams remembers, and how much of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countMax, NgramTable } from '../../src/engine/ngram-table.ts'
import { Random } from '../../src/random/random.ts'

test('what came after a run most of the time is found by it, and by no run of another length', () => {
  const table = new NgramTable()
  assert.equal(table.after([1, 2], 2, 2), null)
  for (let i = 0; i < 3; i++) table.learn([1, 2, 7], 2, 2)
  table.learn([1, 2, 8], 2, 2)
  assert.deepEqual(table.after([9, 1, 2], 3, 2), { token: 7, count: 2 })
  assert.equal(table.after([2], 1, 1), null)
  assert.equal(table.after([2, 1], 2, 2), null)
})

test('a run that is gone on with otherwise from now on is learnt anew after as many times as it was sure', () => {
  const table = new NgramTable()
  for (let i = 0; i < 100; i++) table.learn([5, 6], 1, 1)
  assert.deepEqual(table.after([5], 1, 1), { token: 6, count: countMax })
  for (let i = 0; i < countMax - 1; i++) table.learn([5, 9], 1, 1)
  assert.deepEqual(table.after([5], 1, 1), { token: 6, count: 1 })
  table.learn([5, 9], 1, 1)
  assert.deepEqual(table.after([5], 1, 1), { token: 9, count: 1 })
})

test('a table grows with what it knows and forgets next to nothing, up to a limit that holds', () => {
  const table = new NgramTable()
  const small = table.bytes
  const pairs = Array.from({ length: 6_000 }, (_, i) => [3 * i, i % 50])
  for (const pair of pairs) table.learn(pair, 1, 1)
  const kept = pairs.filter((pair) => table.after(pair, 1, 1)?.token === pair[1]).length
  assert.ok(kept > 0.98 * pairs.length, `${kept} of ${pairs.length}`)
  assert.ok(table.bytes > small)
  const random = new Random(3)
  for (let i = 0; i < 200_000; i++) table.learn([random.below(2 ** 30), 1], 1, 1)
  assert.equal(table.bytes, 9 * 2 ** 15)
  // A run that is seen again and again is kept among all those that come once.
  for (let i = 0; i < 50_000; i++) table.learn(i % 10 === 0 ? [77, 4] : [random.below(2 ** 30), 1], 1, 1)
  assert.equal(table.after([77], 1, 1)?.token, 4)
})

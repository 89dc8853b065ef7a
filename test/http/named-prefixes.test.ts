// Which prefixes have series of their own: never more than the limit, whoever comes, and none that was deleted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NamedPrefixes } from '../../src/http/named-prefixes.ts'
import { Random } from '../../src/random/random.ts'

const limits = { prefixesMax: 3, idleMs: 100 }

function make(): { named: NamedPrefixes; left: string[] } {
  const left: string[] = []
  return { named: new NamedPrefixes((label) => left.push(label), limits), left }
}

test('prefixes have places as long as there are some, the rest is "other", and the bare model is none', () => {
  const { named, left } = make()
  const labels = ['a', 'b', 'c', 'd', 'a', 'd', null].map((id, i) => named.labelOf(id, i))
  assert.deepEqual(labels, ['a', 'b', 'c', 'other', 'a', 'other', 'none'])
  assert.deepEqual(left, [])
})

test('a prefix that nobody asked for gives its place to one that comes, the longest idle first', () => {
  const { named, left } = make()
  for (const [i, id] of ['a', 'b', 'c'].entries()) named.labelOf(id, i)
  named.labelOf('a', 50)
  assert.equal(named.labelOf('d', 100), 'other')
  assert.equal(named.labelOf('d', 101), 'd')
  assert.equal(named.labelOf('e', 101), 'other')
  assert.equal(named.labelOf('e', 102), 'e')
  assert.deepEqual(left, ['b', 'c'])
  assert.equal(named.labelOf('a', 102), 'a')
})

test('a deleted prefix loses its place, and its last requests count with the others', () => {
  const { named, left } = make()
  named.labelOf('a', 0)
  named.forget('a')
  named.forget('never seen')
  assert.deepEqual(left, ['a'])
  assert.equal(named.labelOf('a', 1), 'other')
  assert.equal(named.size, 0)
})

test('there are never more labels than places, whatever comes', () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)
  const random = new Random(seed)
  const { named, left } = make()
  const alive = new Set<string>()
  let nowMs = 0
  for (let i = 0; i < 2_000; i++) {
    nowMs += Math.floor(random.next() * 40)
    const id = `p${Math.floor(random.next() * 10)}`
    if (random.next() < 0.02) named.forget(`p${i}`)
    const label = named.labelOf(id, nowMs)
    if (label !== 'other') alive.add(label)
    for (const gone of left.splice(0)) alive.delete(gone)
    assert.ok(alive.size <= limits.prefixesMax && named.size <= limits.prefixesMax, `seed ${seed}, turn ${i}`)
  }
})

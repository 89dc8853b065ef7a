// The pool of resident prefixes: loaded once, kept while in use, within its bytes, and no failure spreads.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PrefixPool } from '../../src/engine/prefix-pool.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { serviceError, testPrefix } from './requests.ts'

/** Keys and values of `testPrefix`: 2 · 3 positions · 2 numbers · 4 bytes. */
const bytes = 48

test('first uses at the same time load once, later ones not at all', async () => {
  const { pool, loads } = makePool(10 * bytes)
  const [a, b] = await Promise.all([pool.lease('x'), pool.lease('x')])
  assert.equal(a.prefix, b.prefix)
  await pool.lease('x')
  assert.deepEqual(loads, ['x'])
})

test('the least recently used is let go first, and never one in use', async () => {
  const { pool, loads } = makePool(3 * bytes)
  const leases = [await pool.lease('a'), await pool.lease('b'), await pool.lease('c')]
  leases[0]?.release()
  leases[2]?.release()
  ;(await pool.lease('a')).release()
  await pool.lease('d')
  assert.deepEqual(pool.ids, ['b', 'a', 'd'])
  assert.equal(pool.bytes, 3 * bytes)
  await pool.lease('c')
  assert.deepEqual(pool.ids, ['b', 'd', 'c'])
  assert.deepEqual(loads, ['a', 'b', 'c', 'd', 'c'])
})

test('where all bytes are in use the newcomer is told to come again, and can once one is released', async () => {
  const { pool } = makePool(bytes)
  const lease = await pool.lease('a')
  await assert.rejects(pool.lease('b'), serviceError('overloaded', 'b', String(bytes)))
  lease.release()
  lease.release()
  const other = await pool.lease('b')
  await assert.rejects(pool.lease('a'), serviceError('overloaded'))
  other.release()
  assert.equal(pool.bytes, bytes)
})

test('a prefix larger than the whole pool is refused, naming both sizes', async () => {
  const { pool } = makePool(bytes - 1)
  await assert.rejects(pool.lease('a'), serviceError('not_supported', String(bytes), String(bytes - 1)))
})

test('a failed load fails those who waited for it, and the next one tries again', async () => {
  let attempts = 0
  const load = async (id: string): Promise<Prefix> => {
    attempts++
    if (attempts === 1) throw new ServiceError('store_unavailable', `no ${id} now`)
    return testPrefix(1)
  }
  const pool = new PrefixPool(load, 10 * bytes)
  const both = await Promise.allSettled([pool.lease('x'), pool.lease('x')])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  await pool.lease('x')
  assert.equal(attempts, 2)
})

test('those that are loaded at the same time cannot push each other out before they were used', async () => {
  const { pool } = makePool(2 * bytes)
  const results = await Promise.allSettled(['a', 'b', 'c'].map((id) => pool.lease(id)))
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected'],
  )
  assert.equal(pool.bytes, 2 * bytes)
})

function makePool(bytesMax: number): { pool: PrefixPool; loads: string[] } {
  const loads: string[] = []
  const load = async (id: string): Promise<Prefix> => {
    loads.push(id)
    return testPrefix(loads.length)
  }
  return { pool: new PrefixPool(load, bytesMax), loads }
}

// What every object store must do. Each store's own test file runs this suite against it.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ObjectStore } from '../../src/store/store.ts'

/** `open` gives an empty store at each call. */
export function describeObjectStore(name: string, open: () => Promise<ObjectStore>): void {
  describe(name, () => {
    describeBytes(open)
    describePutIfAbsent(open)
    describeList(open)
    describeKeys(open)
  })
}

function describeBytes(open: () => Promise<ObjectStore>): void {
  test('answers null for a key that holds nothing', async () => {
    const store = await open()
    assert.equal(await store.get('prefixes/absent'), null)
    await store.put('prefixes/present/1', Uint8Array.of(1))
    assert.equal(await store.get('prefixes/present'), null)
    await store.ping()
  })

  test('gives back the bytes that were put, none as well as many', async () => {
    const store = await open()
    const many = new Uint8Array(3_000_001).map((_, i) => i * 7)
    await store.put('none', new Uint8Array(0))
    await store.put('deep/in/the/folder/many.bin', many)
    assert.deepEqual(await store.get('none'), new Uint8Array(0))
    assert.deepEqual(await store.get('deep/in/the/folder/many.bin'), many)
  })

  test('keeps the bytes, not the buffer they came in or went out by', async () => {
    const store = await open()
    const bytes = Uint8Array.of(1, 2, 3)
    await store.put('a', bytes)
    bytes.fill(0)
    const read = await store.get('a')
    assert.deepEqual(read, Uint8Array.of(1, 2, 3))
    read?.fill(9)
    assert.deepEqual(await store.get('a'), Uint8Array.of(1, 2, 3))
  })

  test('puts a view into a larger buffer without its surroundings', async () => {
    const store = await open()
    await store.put('a', Uint8Array.of(1, 2, 3, 4).subarray(1, 3))
    assert.deepEqual(await store.get('a'), Uint8Array.of(2, 3))
  })

  test('replaces what a key held', async () => {
    const store = await open()
    await store.put('a', Uint8Array.of(1, 2, 3))
    await store.put('a', Uint8Array.of(4))
    assert.deepEqual(await store.get('a'), Uint8Array.of(4))
  })

  test('a reader beside writers sees one whole object or another', async () => {
    const store = await open()
    await store.put('a', filled(0))
    const writes = (async () => {
      for (let fill = 1; fill <= 12; fill += 2) {
        await Promise.all([store.put('a', filled(fill)), store.put('a', filled(fill + 1))])
      }
    })()
    const reads = Array.from({ length: 3 }, async () => {
      for (let i = 0; i < 20; i++) {
        const read = await store.get('a')
        assert.deepEqual(read, filled(read?.[0] ?? -1))
      }
    })
    await Promise.all([writes, ...reads])
  })

  test('deletes, and deleting what is not there is no error', async () => {
    const store = await open()
    await store.put('a/b', Uint8Array.of(1))
    await store.delete('a/b')
    assert.equal(await store.get('a/b'), null)
    await store.delete('a/b')
    await store.delete('never/was')
    assert.deepEqual(await keys(store, ''), [])
  })
}

function describePutIfAbsent(open: () => Promise<ObjectStore>): void {
  test('writes where nothing is, and leaves alone what is there', async () => {
    const store = await open()
    assert.equal(await store.putIfAbsent('a', Uint8Array.of(1)), true)
    assert.equal(await store.putIfAbsent('a', Uint8Array.of(2)), false)
    assert.deepEqual(await store.get('a'), Uint8Array.of(1))
    await store.delete('a')
    assert.equal(await store.putIfAbsent('a', Uint8Array.of(3)), true)
    assert.deepEqual(await keys(store, ''), ['a'])
  })

  test('of many who write at once exactly one wins, and it is told so', async () => {
    const store = await open()
    const writers = Array.from({ length: 12 }, (_, i) => store.putIfAbsent('claims/1', Uint8Array.of(i)))
    const won = (await Promise.all(writers)).flatMap((wrote, i) => (wrote ? [i] : []))
    assert.equal(won.length, 1)
    assert.deepEqual(await store.get('claims/1'), Uint8Array.from(won))
  })
}

function describeList(open: () => Promise<ObjectStore>): void {
  test('lists the keys under a path, in byte order', async () => {
    const store = await open()
    for (const key of ['b/2', 'a/1', 'b/10', 'b/1', 'b.c', 'b-c', 'bc', 'B/1', 'b_c'])
      await store.put(key, Uint8Array.of(1))
    assert.deepEqual(await keys(store, ''), ['B/1', 'a/1', 'b-c', 'b.c', 'b/1', 'b/10', 'b/2', 'b_c', 'bc'])
    assert.deepEqual(await keys(store, 'b/'), ['b/1', 'b/10', 'b/2'])
    assert.deepEqual(await keys(store, 'b/1'), ['b/1', 'b/10'])
    assert.deepEqual(await keys(store, 'b'), ['b-c', 'b.c', 'b/1', 'b/10', 'b/2', 'b_c', 'bc'])
    assert.deepEqual(await keys(store, 'absent/'), [])
  })

  test('goes on after a key, whether that is still there or not', async () => {
    const store = await open()
    for (const key of ['a/1/x', 'a/2/x', 'a/2/y', 'a/3/x', 'b/1']) await store.put(key, Uint8Array.of(1))
    assert.deepEqual(await keys(store, 'a/', 'a/2/x'), ['a/2/y', 'a/3/x'])
    assert.deepEqual(await keys(store, 'a/', 'a/2/xx'), ['a/2/y', 'a/3/x'])
    assert.deepEqual(await keys(store, 'a/', 'a/3/x'), [])
    assert.deepEqual(await keys(store, '', 'a/2'), ['a/2/x', 'a/2/y', 'a/3/x', 'b/1'])
  })
}

const badKeys = [
  '',
  '/',
  '/a',
  'a/',
  'a//b',
  '.',
  '..',
  '../a',
  'a/../b',
  'a/./b',
  'a b',
  'a\\b',
  'a\0',
  'ä',
  '~a',
  'a%2e',
]

function describeKeys(open: () => Promise<ObjectStore>): void {
  test('refuses keys that are not plain paths', async () => {
    const store = await open()
    for (const key of [...badKeys, 'a'.repeat(129), 'a/'.repeat(256) + 'a']) {
      await assert.rejects(store.put(key, Uint8Array.of(1)), { code: 'ERR_ASSERTION' }, key)
      await assert.rejects(store.putIfAbsent(key, Uint8Array.of(1)), { code: 'ERR_ASSERTION' }, key)
      await assert.rejects(store.get(key), { code: 'ERR_ASSERTION' }, key)
      await assert.rejects(store.delete(key), { code: 'ERR_ASSERTION' }, key)
    }
    for (const path of ['/', '../', 'a/../', 'a b']) {
      await assert.rejects(keys(store, path), { code: 'ERR_ASSERTION' }, path)
    }
    assert.deepEqual(await keys(store, ''), [])
  })

  test('keeps keys as long as they may be', async () => {
    const store = await open()
    const key = `${'a'.repeat(128)}/${'b'.repeat(128)}/${'c'.repeat(128)}/${'d'.repeat(125)}`
    assert.equal(key.length, 512)
    await store.put(key, Uint8Array.of(1))
    assert.deepEqual(await store.get(key), Uint8Array.of(1))
    assert.deepEqual(await keys(store, ''), [key])
  })
}

/** Objects that differ in length and in every byte. */
function filled(fill: number): Uint8Array {
  return new Uint8Array(200_000 + fill).fill(fill)
}

export async function keys(store: ObjectStore, path: string, after?: string): Promise<string[]> {
  const found: string[] = []
  for await (const key of store.list(path, after)) found.push(key)
  return found
}

// The registry of prefixes: names and versions, records that change, pages of them.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newId } from '../../src/prefix/ids.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { keys, newPrefix, samplePrefix } from './sample-prefix.ts'

describe('prefix ids', () => {
  test('have 24 characters after their kind and sort from the newest to the oldest', () => {
    const ids = Array.from({ length: 2_000 }, () => newId('pfx'))
    for (const id of ids) assert.match(id, /^pfx_[0-9a-z]{24}$/)
    assert.deepEqual([...ids].sort().reverse(), ids)
    assert.ok(newId('pfx', Date.now() + 60_000) < (ids.at(-1) ?? ''))
  })
})

describe('PrefixRegistry: records and names', () => {
  test('a new prefix is queued and found by id', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const record = await registry.create(newPrefix(null))
    assert.equal(record.status, 'queued')
    assert.equal(record.version, null)
    assert.deepEqual(await registry.find(record.id), record)
  })

  test('what was held out is kept, and a record that was written before it was does not know', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const { id } = await registry.create({ ...newPrefix(null), validation: 0.25 })
    const { validation, ...old } = await registry.find(id)
    assert.equal(validation, 0.25)
    await store.put(`prefixes/${id}.json`, new TextEncoder().encode(JSON.stringify(old)))
    assert.deepEqual(await registry.find(id), { ...old, validation: null })
  })

  test('versions count up under a name; the bare name means the latest', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const [first, second] = [await registry.create(newPrefix('e2e')), await registry.create(newPrefix('e2e'))]
    const other = await registry.create(newPrefix('e2e.b'))
    assert.deepEqual([first.version, second.version, other.version], [1, 2, 1])
    assert.equal((await registry.find('e2e')).id, second.id)
    assert.equal((await registry.find('e2e@1')).id, first.id)
    assert.equal((await registry.find(second.id)).version, 2)
  })

  test('creators of one name in two processes at once get different versions', async () => {
    const store = new MemoryStore()
    const registries = [new PrefixRegistry(store), new PrefixRegistry(store)]
    const asked = Array.from({ length: 20 }, (_, i) => (registries[i % 2] as PrefixRegistry).create(newPrefix('e2e')))
    const versions = (await Promise.all(asked)).map(({ version }) => version ?? 0)
    assert.deepEqual(
      versions.sort((a, b) => a - b),
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
  })

  test('a claim whose answer was lost on the way is not made twice', async () => {
    const store = new MemoryStore()
    const putIfAbsent = store.putIfAbsent.bind(store)
    store.putIfAbsent = async (key, bytes) => {
      await putIfAbsent(key, bytes)
      return false // As after a repeated request: the first one had been carried out.
    }
    const record = await new PrefixRegistry(store).create(newPrefix('e2e'))
    assert.equal(record.version, 1)
    assert.deepEqual(await keys(store, 'names/'), ['names/e2e/00000001'])
  })

  test('a version whose creator died before its record was written is passed over', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const first = await registry.create(newPrefix('e2e'))
    await store.put('names/e2e/00000002', new TextEncoder().encode(newId('pfx')))
    assert.equal((await registry.find('e2e')).id, first.id)
    await assert.rejects(registry.find('e2e@2'), { code: 'prefix_not_found' })
    assert.equal((await registry.create(newPrefix('e2e'))).version, 3)
  })

  test('names that break the rule are refused', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    for (const name of ['', '-a', '.a', 'A', 'a b', 'a/b', 'a@1', 'ä', 'pfx_a', 'a'.repeat(64)]) {
      await assert.rejects(registry.create(newPrefix(name)), { code: 'invalid_request' }, name)
    }
    assert.equal((await registry.create(newPrefix('0-9_a.b'))).name, '0-9_a.b')
    assert.equal((await registry.create(newPrefix('a'.repeat(63)))).version, 1)
  })

  test('what is not there is prefix_not_found, naming what was asked', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    await registry.create(newPrefix('e2e'))
    for (const asked of [
      'e2',
      'e2e@2',
      'e2e@0',
      'e2e@',
      'e2e@1@1',
      '../e2e',
      '',
      newId('pfx'),
      'pfx_short',
      'x'.repeat(300),
    ]) {
      const message = new RegExp(`"${asked.slice(0, 100)}`)
      await assert.rejects(registry.find(asked), { code: 'prefix_not_found', message }, asked)
      await assert.rejects(registry.findReady(asked), { code: 'prefix_not_found' }, asked)
    }
    await assert.rejects(registry.update(newId('pfx'), {}), { code: 'prefix_not_found' })
    await assert.rejects(registry.update('../x', {}), { code: 'prefix_not_found' })
    await assert.rejects(registry.delete(newId('pfx')), { code: 'prefix_not_found' })
  })

  test('updates at the same time lose nothing, and what names a prefix cannot change', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const { id } = await registry.create(newPrefix('e2e'))
    const changes = [
      { step: 7 },
      { loss: 1.5 },
      { status: 'training' as const },
      { metrics: { bleu: 50 } },
      { steps: 9 },
    ]
    await Promise.all(changes.map((change) => registry.update(id, change)))
    await registry.update(id, { id: 'pfx_other', name: 'other', version: 9 } as object)
    const { step, loss, status, metrics, steps, name, version } = await registry.find('e2e')
    assert.deepEqual(
      { step, loss, status, metrics, steps, name, version },
      {
        step: 7,
        loss: 1.5,
        status: 'training',
        metrics: { bleu: 50 },
        steps: 9,
        name: 'e2e',
        version: 1,
      },
    )
  })

  test('an update that fails leaves the turn to the next one', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const { id } = await registry.create(newPrefix(null))
    const put = store.put.bind(store)
    let fails = 1
    store.put = async (key, bytes) => {
      if (fails-- > 0) throw new Error('made to fail')
      return put(key, bytes)
    }
    const [failed, worked] = await Promise.allSettled([
      registry.update(id, { step: 1 }),
      registry.update(id, { loss: 2 }),
    ])
    assert.equal(failed.status, 'rejected')
    assert.equal(worked.status, 'fulfilled')
    const { step, loss } = await registry.find(id)
    assert.deepEqual({ step, loss }, { step: 0, loss: 2 })
  })

  test('a damaged record is named', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const { id } = await registry.create(newPrefix(null))
    await store.put(`prefixes/${id}.json`, new TextEncoder().encode('{'))
    await assert.rejects(registry.find(id), { code: 'prefix_invalid', message: new RegExp(id) })
  })
})

describe('PrefixRegistry: pages', () => {
  test('all prefixes come from the newest to the oldest, page by page', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const ids: string[] = []
    for (let i = 0; i < 7; i++) ids.unshift((await registry.create(newPrefix(null))).id)
    const pages: string[][] = []
    let cursor: string | null = null
    do {
      const page = await registry.list(cursor === null ? { limit: 3 } : { limit: 3, cursor })
      pages.push(page.data.map(({ id }) => id))
      cursor = page.next
    } while (cursor !== null)
    assert.deepEqual(pages, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
    assert.equal((await registry.list({ limit: 7 })).next, null)
  })

  test('the versions of a name come from the latest down, deleted ones left out', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const records = []
    for (let i = 0; i < 5; i++) records.push(await registry.create(newPrefix('e2e')))
    await registry.create(newPrefix('other'))
    await registry.delete(records[3]?.id ?? '')
    const first = await registry.list({ limit: 2, name: 'e2e' })
    assert.deepEqual(
      first.data.map(({ version }) => version),
      [5, 3],
    )
    const second = await registry.list({ limit: 2, name: 'e2e', cursor: first.next ?? '' })
    assert.deepEqual(
      second.data.map(({ version }) => version),
      [2, 1],
    )
    assert.equal(second.next, null)
    assert.deepEqual(await registry.list({ limit: 2, name: 'nobody' }), { data: [], next: null })
  })

  test('bad limits, cursors and names are refused', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    for (const query of [
      { limit: 0 },
      { limit: 1_001 },
      { limit: 1.5 },
      { limit: 5, cursor: '../a' },
      { limit: 5, name: 'e2e', cursor: 'pfx' },
      { limit: 5, name: 'A' },
    ]) {
      await assert.rejects(registry.list(query), { code: 'invalid_request' }, JSON.stringify(query))
    }
  })
})

describe('PrefixRegistry: what a reference meant a moment ago', () => {
  test('is taken from memory, but not once this process has changed something', async () => {
    const store = new CountingStore()
    const registry = new PrefixRegistry(store)
    const first = await registry.create(newPrefix('e2e'))
    await registry.publish(first.id, samplePrefix())
    const reads = async (): Promise<number> => {
      const before = store.reads
      await registry.findReady('e2e')
      return store.reads - before
    }
    assert.ok((await reads()) > 0)
    assert.equal(await reads(), 0)
    const second = await registry.create(newPrefix('e2e'))
    assert.equal((await registry.findReady('e2e')).id, first.id)
    await registry.publish(second.id, samplePrefix())
    assert.equal((await registry.findReady('e2e')).id, second.id)
    await registry.delete(second.id)
    assert.equal((await registry.findReady('e2e')).id, first.id)
    await registry.delete(first.id)
    await assert.rejects(registry.findReady('e2e'), /no prefix/)
  })
})

class CountingStore extends MemoryStore {
  reads = 0

  override get(key: string): Promise<Uint8Array | null> {
    this.reads++
    return super.get(key)
  }
}

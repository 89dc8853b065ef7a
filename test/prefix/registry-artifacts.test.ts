// The registry's artifacts: published once, shared, never changed, gone with their last user.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { encodePrefix } from '../../src/prefix/artifact.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { FolderStore } from '../../src/store/folder.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { keys, newPrefix, samplePrefix } from './sample-prefix.ts'

describe('PrefixRegistry: artifacts', () => {
  test('a published prefix is ready, and is loaded as it was', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const { id } = await registry.create(newPrefix('e2e'))
    const record = await registry.publish(id, samplePrefix(), {
      step: 9,
      loss: 0.5,
      training: { epochs: 5, used: true },
    })
    const { status, step, loss, training, bytes, error } = record
    assert.deepEqual(
      { status, step, loss, training, error },
      {
        status: 'ready',
        step: 9,
        loss: 0.5,
        training: { epochs: 5, used: true },
        error: null,
      },
    )
    assert.equal(bytes, encodePrefix(samplePrefix()).length)
    assert.deepEqual(await registry.find(id), record)
    assert.deepEqual(await registry.load(id), samplePrefix())
    assert.deepEqual(await registry.artifact(record), encodePrefix(samplePrefix()))
  })

  test('a registry opened later on the same folder finds what an earlier one wrote', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'registry-'))
    t.after(() => rm(folder, { recursive: true }))
    const earlier = new PrefixRegistry(await FolderStore.open(folder))
    const records = await Promise.all([1, 2, 3].map(() => earlier.create(newPrefix('e2e'))))
    await Promise.all(records.map(({ id }) => earlier.publish(id, samplePrefix())))
    await earlier.delete((await earlier.find('e2e@3')).id)
    const later = new PrefixRegistry(await FolderStore.open(folder))
    assert.equal((await later.findReady('e2e')).version, 2)
    assert.deepEqual(await later.load('e2e@1'), samplePrefix())
    assert.equal((await later.list({ limit: 10 })).data.length, 2)
  })

  test('publishing is harmless if done twice, and never changes what is ready', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const { id } = await registry.create(newPrefix(null))
    await registry.publish(id, samplePrefix())
    await registry.publish(id, samplePrefix())
    await assert.rejects(registry.publish(id, samplePrefix({}, 0.25)), {
      code: 'prefix_invalid',
      message: /ready with/,
    })
    assert.deepEqual(await registry.load(id), samplePrefix())
  })

  test('a bare name means the latest version that is ready', async () => {
    const registry = new PrefixRegistry(new MemoryStore())
    const first = await registry.create(newPrefix('e2e'))
    await assert.rejects(registry.findReady('e2e'), {
      code: 'prefix_not_ready',
      message: /e2e@1 .* is queued/,
      details: { prefix: first.id, status: 'queued' },
    })
    await registry.publish(first.id, samplePrefix())
    const second = await registry.create(newPrefix('e2e'))
    await registry.update(second.id, { status: 'failed' })
    assert.equal((await registry.findReady('e2e')).id, first.id)
    assert.equal((await registry.find('e2e')).id, second.id)
    await assert.rejects(registry.findReady('e2e@2'), { code: 'prefix_not_ready', message: /is failed/ })
    await assert.rejects(registry.load(second.id), { code: 'prefix_not_ready' })
    await assert.rejects(registry.artifact(second), { code: 'prefix_not_ready' })
  })

  test('an artifact that was damaged or is missing is prefix_invalid', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const { id } = await registry.create(newPrefix(null))
    const { artifactSha256 } = await registry.publish(id, samplePrefix())
    const key = `artifacts/${artifactSha256}.safetensors`
    const bytes = (await store.get(key)) ?? new Uint8Array(0)
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
    await store.put(key, bytes)
    await assert.rejects(registry.load(id), { code: 'prefix_invalid', message: /is damaged/ })
    await store.delete(key)
    await assert.rejects(registry.load(id), { code: 'prefix_invalid', message: /is missing/ })
  })
})

describe('PrefixRegistry: deleting', () => {
  test('a deleted prefix is gone, and its version is never given again', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const [first, second] = [await registry.create(newPrefix('e2e')), await registry.create(newPrefix('e2e'))]
    await registry.publish(second.id, samplePrefix())
    await registry.delete(second.id)
    assert.equal((await registry.find('e2e')).id, first.id)
    for (const asked of [second.id, 'e2e@2']) await assert.rejects(registry.find(asked), { code: 'prefix_not_found' })
    assert.deepEqual([await keys(store, 'artifacts/'), await keys(store, 'uses/')], [[], []])
    assert.equal((await registry.create(newPrefix('e2e'))).version, 3)
  })

  test('an artifact that two prefixes share goes with the last of them', async () => {
    const store = new MemoryStore()
    const registry = new PrefixRegistry(store)
    const [first, second] = [await registry.create(newPrefix(null)), await registry.create(newPrefix('e2e'))]
    for (const { id } of [first, second]) await registry.publish(id, samplePrefix())
    assert.equal((await keys(store, 'artifacts/')).length, 1)
    await registry.delete(first.id)
    assert.deepEqual(await registry.load(second.id), samplePrefix())
    await registry.delete(second.id)
    assert.deepEqual(await keys(store, 'artifacts/'), [])
  })

  test('a change that another process makes meanwhile does not bring a deleted prefix back', async () => {
    const store = new MemoryStore()
    const [here, there] = [new PrefixRegistry(store), new PrefixRegistry(store)]
    const { id } = await here.create(newPrefix('e2e'))
    const put = store.put.bind(store)
    store.put = async (key, bytes) => {
      // The other process read the record already; it is deleted before the change is written.
      if (key === `prefixes/${id}.json`) {
        store.put = put
        await here.delete(id)
      }
      return put(key, bytes)
    }
    await assert.rejects(there.publish(id, samplePrefix()), { code: 'prefix_not_found' })
    await assert.rejects(here.find(id), { code: 'prefix_not_found' })
    const left = [await keys(store, 'prefixes/'), await keys(store, 'artifacts/'), await keys(store, 'uses/')]
    assert.deepEqual(left, [[], [], []])
  })

  test('publishing while the last other user of the artifact is deleted keeps it', async () => {
    for (let writes = 0; writes < 6; writes++) {
      const store = new MemoryStore()
      const [here, there] = [new PrefixRegistry(store), new PrefixRegistry(store)]
      const [first, second] = [await here.create(newPrefix(null)), await here.create(newPrefix(null))]
      await here.publish(first.id, samplePrefix())
      await Promise.all([startAfter(writes, () => here.delete(first.id)), there.publish(second.id, samplePrefix())])
      assert.deepEqual(await here.load(second.id), samplePrefix(), `${writes} turns apart`)
    }
  })
})

/** Gives the other side `turns` turns of the event loop's microtasks first. */
async function startAfter(turns: number, work: () => Promise<void>): Promise<void> {
  for (let i = 0; i < turns * 3; i++) await Promise.resolve()
  await work()
}

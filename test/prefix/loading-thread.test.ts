// Prefixes that are loaded on a thread of their own, while the one that asks has something else to do.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { LoadingThread } from '../../src/prefix/loading-thread.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { openStore } from '../../src/store/open.ts'
import { newPrefix, samplePrefix } from './sample-prefix.ts'

/** Takes no load, and dies of the first. */
const dying = new URL(`./dying-loader${path.extname(import.meta.url)}`, import.meta.url)
/** A load takes a few milliseconds. */
const stepMs = 300
/** Of the event loop. A load in the thread itself takes ten: two files are opened, measured, read and closed. */
const turnsMax = 4

describe('LoadingThread', () => {
  let folder = ''
  let registry: PrefixRegistry
  let thread: LoadingThread
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'loading-thread-'))
    registry = new PrefixRegistry(await openStore(folder))
    thread = await LoadingThread.open(folder)
  })
  after(async () => {
    await thread.close()
    await rm(folder, { recursive: true })
  })

  async function publish(first: number): Promise<string> {
    const { id } = await registry.create(newPrefix(null))
    await registry.publish(id, samplePrefix({}, first))
    return id
  }

  test('gives what the registry gives, each load its own', async () => {
    const ids = [await publish(1), await publish(2), await publish(3)]
    const loaded = await Promise.all([...ids, ...ids].map((id) => thread.load(id)))
    for (const [i, prefix] of loaded.entries())
      assert.deepEqual(prefix, await registry.load(ids[i % ids.length] as string))
    assert.notDeepEqual(loaded[0], loaded[1])
  })

  test('what is wrong with a prefix is told as the registry tells it, and the next load works', async () => {
    const [good, damaged] = [await publish(4), await publish(5)]
    const { artifactSha256 } = await registry.find(damaged)
    await writeFile(path.join(folder, 'artifacts', `${artifactSha256}.safetensors`), 'no prefix')
    const queued = await registry.create(newPrefix(null))
    const bad = {
      prefix_invalid: damaged,
      prefix_not_ready: queued.id,
      prefix_not_found: 'pfx_000000000000000000000000',
    }
    for (const [code, id] of Object.entries(bad)) {
      const told = await registry.load(id).then(
        () => assert.fail(code),
        (error: Error) => error,
      )
      assert.equal((told as unknown as { code: string }).code, code)
      const { message, name } = told
      await assert.rejects(thread.load(id), { code, message, name })
    }
    assert.deepEqual(await thread.load(good), await registry.load(good))
  })

  test('is done while the thread that asks is busy', async () => {
    const id = await publish(6)
    const seen = { loaded: false }
    const loading = thread.load(id).then(() => (seen.loaded = true))
    const neverWoken = new Int32Array(new SharedArrayBuffer(4))
    let turns = 0
    for (await nextTurn(); !seen.loaded; turns++) {
      Atomics.wait(neverWoken, 0, 0, stepMs)
      await nextTurn()
    }
    await loading
    assert.ok(turns <= turnsMax, `${turns} turns`)
  })

  test('at rest it keeps no process from ending', async () => {
    const file = new URL(`../../src/prefix/loading-thread${path.extname(import.meta.url)}`, import.meta.url)
    const code = `const { LoadingThread } = await import(${JSON.stringify(file.href)})
      const thread = await LoadingThread.open(${JSON.stringify(folder)})
      console.log((await thread.load(${JSON.stringify(await publish(8))})).header.prefixLength)`
    const script = path.join(folder, 'idle.mjs')
    await writeFile(script, code)
    const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 60_000 })
    assert.equal(stdout, '3\n')
  })

  test('a store that cannot be opened is told at once', async () => {
    await assert.rejects(LoadingThread.open('ftp://elsewhere'), { code: 'config_invalid', message: /ftp/ })
  })

  test('loads that have not ended when it is closed fail', async () => {
    const closing = await LoadingThread.open(folder)
    const load = closing.load(await publish(7))
    const failed = assert.rejects(load, { code: 'cancelled' })
    await nextTurn() // It is asked by now, and the answer not taken yet.
    await closing.close()
    await failed
  })
})

test('a thread that dies fails the loads that it had, and the next load has a new one', async () => {
  const thread = await LoadingThread.open('unused', dying)
  try {
    for (const life of ['first', 'second']) {
      const loads = [thread.load(`${life} a`), thread.load(`${life} b`)]
      for (const load of loads)
        await assert.rejects(load, { code: 'engine_failed', message: /died: of (first|second) a$/ })
    }
  } finally {
    await thread.close()
  }
})

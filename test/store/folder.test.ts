// The store in a folder: what every store must do, on a full disk and after a killed writer too.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as nodeFiles from 'node:fs/promises'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test, type TestContext } from 'node:test'
import { blockingFiles, type FileSystem, FolderStore } from '../../src/store/folder.ts'
import { openStore } from '../../src/store/open.ts'
import { describeObjectStore, keys } from './contract.ts'

let root = ''
let stores = 0
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'folder-store-'))
})
after(async () => {
  await rm(root, { recursive: true })
})

function newFolder(): string {
  return join(root, `${stores++}`)
}

describeObjectStore('FolderStore', () => FolderStore.open(newFolder()))
describeObjectStore('FolderStore with reads that hold up the thread', () =>
  FolderStore.open(newFolder(), blockingFiles),
)

/** The file system, but `step` of every write ends with `code`. */
function failing(step: 'write' | 'sync' | 'rename' | 'link' | 'mkdir', code: string): FileSystem {
  const fail = async (): Promise<never> => {
    throw Object.assign(new Error(`${code}: made to fail`), { code })
  }
  const open: typeof nodeFiles.open = async (path, flags) => {
    const file = await nodeFiles.open(path, flags)
    if (flags === 'wx' && step === 'write') {
      file.writeFile = async () => {
        await file.write(Uint8Array.of(0)) // A part of the object is on the disk when it is full.
        return fail()
      }
    }
    if (flags === 'wx' && step === 'sync') file.sync = fail
    return file
  }
  return { ...nodeFiles, open, ...(step === 'write' || step === 'sync' ? {} : { [step]: fail }) }
}

describe('FolderStore on a full disk', () => {
  for (const step of ['write', 'sync', 'rename'] as const) {
    test(`that is met by ${step}: the old object stays whole and nothing is left behind`, async () => {
      const folder = newFolder()
      const store = await FolderStore.open(folder)
      await store.put('artifacts/a', Uint8Array.of(1, 2, 3))
      const full = await FolderStore.open(folder, failing(step, 'ENOSPC'))
      await assert.rejects(full.put('artifacts/a', new Uint8Array(500)), {
        code: 'store_full',
        message: /artifacts\/a \(500 bytes\)/,
        details: { key: 'artifacts/a', bytes: 500 },
      })
      assert.deepEqual(await store.get('artifacts/a'), Uint8Array.of(1, 2, 3))
      assert.deepEqual(await readdir(join(folder, 'artifacts')), ['a'])
    })
  }

  test('that is met by link: nothing is written and nothing is left behind', async () => {
    const folder = newFolder()
    const full = await FolderStore.open(folder, failing('link', 'EDQUOT'))
    await assert.rejects(full.putIfAbsent('a', Uint8Array.of(1)), { code: 'store_full' })
    assert.deepEqual(await readdir(folder), [])
  })

  test('for real: a file system of 64 KiB', async (t) => {
    const folder = newFolder()
    if (!(await mountTiny(t, folder))) return
    const store = await FolderStore.open(folder)
    const old = new Uint8Array(8_192).fill(7)
    await store.put('a', old)
    await assert.rejects(store.put('a', new Uint8Array(500_000)), { code: 'store_full', message: /a \(500000 bytes\)/ })
    await assert.rejects(store.putIfAbsent('b', new Uint8Array(500_000)), { code: 'store_full' })
    assert.deepEqual(await store.get('a'), old)
    assert.deepEqual(await readdir(folder), ['a'])
    await store.put('a', new Uint8Array(4_096).fill(8)) // There is room for what fits.
  })
})

async function mountTiny(t: TestContext, folder: string): Promise<boolean> {
  await mkdir(folder)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    t.skip('full disk: mounting a tmpfs is not permitted here')
    return false
  }
  t.after(() => execFileSync('umount', [folder], { stdio: 'ignore' }))
  return true
}

describe('FolderStore and the files in its folder', () => {
  test('other failures of the disk are store_unavailable, naming the folder', async () => {
    const folder = newFolder()
    const store = await FolderStore.open(folder, failing('write', 'EIO'))
    const refused = { code: 'store_unavailable', message: new RegExp(`${folder}.*EIO`) }
    await assert.rejects(store.put('a', Uint8Array.of(1)), refused)
    assert.deepEqual(await readdir(folder), [])
  })

  test('temporaries of a killed writer are cleared at open once they are old, and never listed', async () => {
    const folder = newFolder()
    const store = await FolderStore.open(folder)
    await store.put('deep/a', Uint8Array.of(1))
    const [old, young] = [join(folder, 'deep', '~1-old'), join(folder, 'deep', '~2-young')]
    await writeFile(old, 'left')
    await writeFile(young, 'in progress')
    const twoHoursAgo = Date.now() / 1000 - 7_200
    await utimes(old, twoHoursAgo, twoHoursAgo)
    assert.deepEqual(await keys(store, ''), ['deep/a'])
    assert.deepEqual(await keys(await FolderStore.open(folder), ''), ['deep/a'])
    assert.deepEqual((await readdir(join(folder, 'deep'))).sort(), ['a', '~2-young'])
  })

  test('what one process wrote another one opens', async () => {
    const folder = newFolder()
    await (await openStore(folder)).put('a', Uint8Array.of(1))
    assert.deepEqual(await (await openStore(`file:${folder}`)).get('a'), Uint8Array.of(1))
    assert.deepEqual(await (await openStore(`file://${folder}`)).get('a'), Uint8Array.of(1))
  })

  test('ping fails once the folder is gone', async () => {
    const folder = newFolder()
    const store = await FolderStore.open(folder)
    await store.ping()
    await rm(folder, { recursive: true })
    await assert.rejects(store.ping(), { code: 'store_unavailable', message: new RegExp(folder) })
  })

  test('a folder that cannot be made is store_unavailable', async () => {
    const folder = newFolder()
    await writeFile(folder, 'a file, not a folder')
    await assert.rejects(openStore(folder), { code: 'store_unavailable' })
  })

  test('addresses that are neither a folder nor a bucket are refused', async () => {
    for (const url of [
      '',
      'http://127.0.0.1/bucket',
      'gs://bucket',
      's3://',
      's3://B',
      's3://bucket//a',
      's3://bucket/a b',
    ]) {
      await assert.rejects(openStore(url), { code: 'config_invalid' }, url)
    }
  })
})

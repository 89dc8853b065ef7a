// Files that must not change by accident. UPDATE_GOLDEN=1 writes them anew; the diff is then there to be read.
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'

/** `path` is seen from the top of the repository, where tests are run. */
export async function assertGolden(path: string, actual: string | Uint8Array): Promise<void> {
  if (process.env['UPDATE_GOLDEN'] === '1') return writeFile(path, actual)
  const outOfDate = `${path} is out of date: run with UPDATE_GOLDEN=1 and read the diff`
  if (typeof actual === 'string') assert.equal(actual, await readFile(path, 'utf8'), outOfDate)
  else assert.ok(Buffer.from(actual).equals(await readFile(path)), outOfDate)
}

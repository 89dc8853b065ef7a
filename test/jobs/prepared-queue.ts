// An embedded queue whose tables are there already, copied: making them takes PostgreSQL in WebAssembly eight seconds of a core each time.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { openBroker } from '../../src/jobs/broker.ts'

const cache = path.join(tmpdir(), 'preamble-test-queue')
/** What an empty queue on disk depends on: the packages' versions and how they are opened. */
const origins = ['package.json', 'src/jobs/pglite-pool.ts', 'src/jobs/broker.ts']

/** Puts an empty queue into `directory`, unless something is there; made once for each state of what makes it. */
export async function prepareQueue(directory: string): Promise<void> {
  if (existsSync(directory)) return
  await mkdir(path.dirname(directory), { recursive: true })
  await cp(await preparedQueue(), directory, { recursive: true })
}

async function preparedQueue(): Promise<string> {
  const hash = createHash('sha256')
  for (const file of origins) hash.update(await readFile(file))
  const prepared = path.join(cache, hash.digest('hex').slice(0, 16))
  if (existsSync(prepared)) return prepared
  await mkdir(cache, { recursive: true })
  const folder = await mkdtemp(path.join(cache, 'making-'))
  const made = path.join(folder, 'queue')
  await (await openBroker(`pglite:${made}`)).close()
  try {
    await rename(made, prepared)
  } catch (error) {
    // Another process was faster.
    if (!existsSync(prepared)) throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return prepared
}

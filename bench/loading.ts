// Times how a stored prefix comes into memory at its first use, and what takes the time.
import { createHash } from 'node:crypto'
import { pastsOf } from '../src/engine/past.ts'
import { decoderAlone } from '../src/engine/played.ts'
import { PrefixPool } from '../src/engine/prefix-pool.ts'
import { decodePrefix } from '../src/prefix/artifact.ts'
import { PrefixRegistry } from '../src/prefix/registry.ts'
import type { ObjectStore } from '../src/store/store.ts'
import { median, type Figures } from './machine.ts'

const megabytes = 2 ** 20
/** Each round has a pool and a registry that know nothing yet. */
const rounds = 5

/** Medians, in milliseconds: from asking for a lease to having it, then the parts of it alone. */
export async function measureLoading(store: ObjectStore, ids: readonly string[]): Promise<Figures> {
  const whole: number[] = []
  const parts = { recordMs: [] as number[], readMs: [] as number[], hashMs: [] as number[], decodeMs: [] as number[] }
  let bytes = 0
  for (let round = 0; round < rounds; round++) {
    const registry = new PrefixRegistry(store)
    const pool = new PrefixPool((id) => registry.load(id), 2 ** 30)
    for (const id of ids) {
      const [lease, ms] = await timed(() => pool.lease(id))
      whole.push(ms)
      const { layers, heads, headDim } = lease.prefix.header
      const layout = { layers, heads, headDim, rowsMax: 1, positionsMax: 1 }
      pastsOf(id, lease.prefix, layout, decoderAlone(layout))
      lease.release()
    }
    for (const id of ids) {
      const [record, recordMs] = await timed(() => registry.find(id))
      const [artifact, readMs] = await timed(() => store.get(`artifacts/${record.artifactSha256}.safetensors`))
      if (artifact === null) throw new Error(`the prefix ${id} has no artifact`)
      bytes = artifact.length
      const [, hashMs] = await timed(() => Promise.resolve(createHash('sha256').update(artifact).digest('hex')))
      const [, decodeMs] = await timed(() => Promise.resolve(decodePrefix(artifact)))
      for (const [name, ms] of Object.entries({ recordMs, readMs, hashMs, decodeMs }))
        parts[name as keyof typeof parts].push(ms)
    }
  }
  const medians = Object.fromEntries(Object.entries(parts).map(([name, times]) => [name, median(times)]))
  return { MiB: bytes / megabytes, ms: median(whole), ...medians }
}

async function timed<T>(call: () => Promise<T>): Promise<readonly [T, number]> {
  const startMs = performance.now()
  const value = await call()
  return [value, performance.now() - startMs]
}

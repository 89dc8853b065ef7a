// The versions under a name: an entry for each in the store, claimed once and never given again.
import { ServiceError } from '../errors/errors.ts'
import type { ObjectStore } from '../store/store.ts'
import { isPrefixId } from './ids.ts'

/** Eight digits, so that keys in byte order are versions in order. */
const versionDigits = 8
const versionMax = 10 ** versionDigits - 1
/** Creators of one name who race each other; every race lost is a version further on. */
const claimsMax = 1_000
/** What an entry holds once its prefix is deleted: the version stays taken. */
const tombstone = 'deleted'

export interface NamedVersion {
  readonly version: number
  readonly id: string
}

/** The next version of `name`. Of two who claim at once the store lets one win, and the other takes the one after. */
export async function claimVersion(store: ObjectStore, name: string, id: string): Promise<number> {
  let version = ((await versionsOf(store, name)).at(-1) ?? 0) + 1
  const bytes = new TextEncoder().encode(id)
  for (let claims = 0; claims < claimsMax && version <= versionMax; claims++, version++) {
    if (await store.putIfAbsent(keyOf(name, version), bytes)) return version
    // A store that lost its first answer on the way may have asked itself again, and met our own entry.
    if ((await readEntry(store, name, version)) === id) return version
  }
  throw new ServiceError('overloaded', `no version of the name ${name} could be claimed after ${version - 1}`, { name })
}

/** Versions of `name` that were not deleted, the newest first; those below `before` only. */
export async function* newestFirst(store: ObjectStore, name: string, before = Infinity): AsyncIterable<NamedVersion> {
  const versions = await versionsOf(store, name)
  for (const version of versions.reverse()) {
    if (version >= before) continue
    const id = await readEntry(store, name, version)
    if (id !== null) yield { version, id }
  }
}

/** null where the version never was or is deleted. */
export async function readEntry(store: ObjectStore, name: string, version: number): Promise<string | null> {
  const bytes = await store.get(keyOf(name, version))
  const text = bytes && new TextDecoder().decode(bytes)
  return text !== null && isPrefixId(text) ? text : null
}

export async function buryVersion(store: ObjectStore, name: string, version: number): Promise<void> {
  await store.put(keyOf(name, version), new TextEncoder().encode(tombstone))
}

/** All that were ever claimed, in order. */
async function versionsOf(store: ObjectStore, name: string): Promise<number[]> {
  const path = `names/${name}/`
  const versions: number[] = []
  for await (const key of store.list(path)) {
    const version = Number(key.slice(path.length))
    if (Number.isSafeInteger(version) && version > 0) versions.push(version)
  }
  return versions
}

function keyOf(name: string, version: number): string {
  return `names/${name}/${String(version).padStart(versionDigits, '0')}`
}

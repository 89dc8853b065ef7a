// A small prefix for tests, the same at every call unless something is changed, and a request for one.
import type { Prefix, PrefixHeader } from '../../src/prefix/prefix.ts'
import type { NewPrefix } from '../../src/prefix/registry.ts'
import type { ObjectStore } from '../../src/store/store.ts'

export function samplePrefix(changes: Partial<PrefixHeader> = {}, first = 0.5): Prefix {
  const header: PrefixHeader = {
    attachment: 'decoder_self',
    textPositionStart: changes.prefixLength ?? 3,
    prefixLength: 3,
    layers: 2,
    heads: 2,
    headDim: 4,
    modelSha256: 'a'.repeat(64),
    tokenizerSha256: 'b'.repeat(64),
    template: ' {input} <|endoftext|>',
    training: { seed: 1, note: 'ü "quoted"\n' },
    ...changes,
  }
  const size = header.layers * header.heads * header.prefixLength * header.headDim
  const keys = new Float32Array(size).map((_, i) => first + i / 8)
  const values = new Float32Array(size).map((_, i) => -first - i / 16)
  return { header, keys, values }
}

/** What a client asks for, as far as the registry cares. */
export function newPrefix(name: string | null): NewPrefix {
  return {
    name,
    jobId: 'job_1',
    model: { name: 'gpt2', sha256: 'a'.repeat(64) },
    tokenizerSha256: 'b'.repeat(64),
    template: ' {input} <|endoftext|>',
    prefixLength: 3,
    training: { epochs: 5 },
    dataset: null,
  }
}

export async function keys(store: ObjectStore, path: string): Promise<string[]> {
  const found: string[] = []
  for await (const key of store.list(path)) found.push(key)
  return found
}

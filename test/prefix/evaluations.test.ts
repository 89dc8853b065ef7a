// Evaluations kept beside a prefix: a bounded number, the newest first, gone with the prefix.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Evaluations, evaluationsMax } from '../../src/prefix/evaluations.ts'
import { groupByInput } from '../../src/prefix/references.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { makeEvaluation } from './make-evaluation.ts'

test('evaluations come back the newest first; one that is written twice is one', async () => {
  const evaluations = new Evaluations(new MemoryStore())
  const [first, second] = [makeEvaluation(), makeEvaluation()]
  for (const one of [first, second, second, makeEvaluation({ prefixId: 'pfx_2' })]) await evaluations.put(one)
  assert.deepEqual(await evaluations.list('pfx_1'), [second, first])
  assert.deepEqual(await evaluations.list('pfx_3'), [])
})

test('beyond the number that is kept the oldest goes', async () => {
  const evaluations = new Evaluations(new MemoryStore())
  const all = Array.from({ length: evaluationsMax + 2 }, () => makeEvaluation())
  for (const one of all) await evaluations.put(one)
  assert.deepEqual(await evaluations.list('pfx_1'), all.slice(2).reverse())
})

test('a deleted prefix takes its evaluations with it', async () => {
  const store = new MemoryStore()
  const [registry, evaluations] = [new PrefixRegistry(store), new Evaluations(store)]
  const model = { name: 'm', sha256: 'a' }
  const asked = { name: null, jobId: null, model, tokenizerSha256: 'b', template: '{input}', prefixLength: 1 }
  const { id } = await registry.create({ ...asked, training: {}, dataset: null })
  await evaluations.put(makeEvaluation({ prefixId: id }))
  await registry.delete(id)
  assert.deepEqual(await evaluations.list(id), [])
})

test('examples with the same input are brought together, and a reference counts once', () => {
  const pairs = ['a 1', 'b 2', 'a 3', 'a 1'].map((text) => ({ input: text.charAt(0), output: text.charAt(2) }))
  assert.deepEqual(groupByInput(pairs), [
    { input: 'a', references: ['1', '3'] },
    { input: 'b', references: ['2'] },
  ])
})

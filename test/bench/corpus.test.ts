// The E2E data set as the study reads it: pairs in an order drawn once, records with all their sentences.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { drawn, readCorpus } from '../../bench/e2e/corpus.ts'

const folder = await mkdtemp(path.join(tmpdir(), 'preamble-corpus-'))
after(() => rm(folder, { recursive: true }))

const lines = (count: number): string =>
  Array.from({ length: count }, (_, i) => `name : Inn ${i >> 1} | area : centre||Inn ${i >> 1} , said ${i} . \n`).join(
    '',
  )

for (const [name, count] of [
  ['train', 40],
  ['valid', 10],
  ['test', 6],
] as const)
  await writeFile(path.join(folder, `src1_${name}.txt`), lines(count))

test('a record comes once, with every sentence that was written for it', async () => {
  const { test } = await readCorpus(folder)
  assert.equal(test.records.length, 3)
  assert.deepEqual(test.records[1], {
    input: 'name : Inn 1 | area : centre',
    references: ['Inn 1 , said 2 .', 'Inn 1 , said 3 .'],
  })
})

test('the order of the training pairs is drawn, always the same, and loses none', async () => {
  const [first, second] = [await readCorpus(folder), await readCorpus(folder)]
  assert.deepEqual(first, second)
  const numbers = first.train.map(({ output }) => Number(/said (\d+)/.exec(output)?.[1]))
  assert.notDeepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  )
  assert.deepEqual(
    numbers.toSorted((a, b) => a - b),
    [...Array(40).keys()],
  )
  assert.deepEqual(drawn(numbers, 5), drawn(numbers, 5))
  assert.equal(new Set(drawn(numbers, 5)).size, 5)
})

test('a line that is no pair is named', async () => {
  await writeFile(path.join(folder, 'src1_test.txt'), `${lines(2)}name : The Swan\n`)
  await assert.rejects(readCorpus(folder), /src1_test\.txt:3 is not a record, two bars and a sentence/)
})

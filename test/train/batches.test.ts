// Batches: everything once an epoch, hardly any padding, and the same again from the same seed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { BatchSequence, epochBatches, paddingMax } from '../../src/train/batches.ts'
import { splitExamples } from '../../src/train/split.ts'

const seed = Number(process.env['SEED'] ?? 11)
const random = new Random(seed)
const lengthsOf = (count: number): number[] => Array.from({ length: count }, () => 5 + Math.floor(60 * random.next()))

for (let round = 0; round < 20; round++) {
  const lengths = lengthsOf(1 + Math.floor(200 * random.next()))
  const size = 1 + Math.floor(12 * random.next())
  test(`${lengths.length} examples in batches of ${size}: each once, no row padded by more than ${paddingMax} (seed ${seed})`, () => {
    const batches = epochBatches(lengths, size, seed, round)
    assert.deepEqual(
      batches.flat().toSorted((a, b) => a - b),
      lengths.map((_, i) => i),
    )
    for (const batch of batches) {
      const own = batch.map((i) => lengths[i] as number)
      assert.ok(batch.length <= size && Math.max(...own) - Math.min(...own) <= paddingMax)
    }
  })
}

test('epochs differ, and the same epoch of the same seed does not', () => {
  const lengths = lengthsOf(60)
  assert.deepEqual(epochBatches(lengths, 5, 1, 0), epochBatches(lengths, 5, 1, 0))
  assert.notDeepEqual(epochBatches(lengths, 5, 1, 0), epochBatches(lengths, 5, 1, 1))
  assert.notDeepEqual(epochBatches(lengths, 5, 1, 0), epochBatches(lengths, 5, 2, 0))
})

test('a sequence asked for a late step gives the batch that one walked from the start gives', () => {
  const lengths = lengthsOf(47)
  const walked = new BatchSequence(lengths, 5, 3)
  const steps = walked.steps(3)
  const all = Array.from({ length: steps }, (_, step) => walked.at(step))
  assert.deepEqual(new BatchSequence(lengths, 5, 3).at(steps - 1), all.at(-1))
  assert.equal(all.flat().length, 3 * lengths.length)
})

test('a held-out share is drawn by seed, never empty and never everything', () => {
  const examples = Array.from({ length: 20 }, (_, i) => ({ input: `${i}`, output: 'x' }))
  const { examples: kept, heldOut } = splitExamples(examples, 0.1, 1)
  assert.deepEqual([kept.length, heldOut.length], [18, 2])
  assert.deepEqual(splitExamples(examples, 0.1, 1).heldOut, heldOut)
  assert.notDeepEqual(splitExamples(examples, 0.1, 2).heldOut, heldOut)
  assert.equal(splitExamples(examples.slice(0, 2), 0.1, 1).heldOut.length, 1)
  assert.equal(splitExamples(examples.slice(0, 2), 0.9, 1).examples.length, 1)
  assert.equal(splitExamples(examples.slice(0, 1), 0.5, 1).examples.length, 1)
  assert.equal(splitExamples(examples, 0, 1).heldOut.length, 0)
})

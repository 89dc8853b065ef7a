// Groups of rows that swap their pasts: as brute force would have it, all rows at once or none, and nothing copied in vain.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scheduler } from '../../src/engine/scheduler.ts'
import { sequencesOf } from '../../src/engine/sequence.ts'
import { Random } from '../../src/random/random.ts'
import { sample, TestCache, TestSequence } from './scheduling.ts'

interface TestGroup {
  readonly sequences: readonly TestSequence[]
  steps: number
}

test('random reorderings beside other traffic: each row goes on from what its parent held', () => {
  const seed = Number(process.env['SEED'] ?? 20261202)
  for (let round = 0; round < 40; round++) play(new Random(seed + round), `SEED=${seed + round}`)
})

function play(random: Random, name: string): void {
  const own = { rowsMax: 4 + random.below(5), prefillTokensMax: 8, waitingMax: 16 }
  const scheduler = new Scheduler<TestSequence>(own)
  const cache = new TestCache()
  const groups: TestGroup[] = []
  const singles: TestSequence[] = []
  let nextId = 1
  for (let turn = 0; turn < 300 || scheduler.waiting + scheduler.running > 0; turn++) {
    assert.ok(turn < 5000, `${name}: groups wait for each other`)
    if (turn < 300 && random.next() < 0.15) {
      const single = new TestSequence(nextId++, { prompt: 1 + random.below(12), length: 1 + random.below(9) })
      if (scheduler.add([single])) singles.push(single)
    }
    if (turn < 300 && random.next() < 0.15) {
      const prompt = Array.from({ length: 1 + random.below(12) }, () => 1 + random.below(2))
      const beams = 1 + random.below(own.rowsMax)
      const sequences = Array.from(
        { length: beams },
        () => new TestSequence(nextId++, { prompt, length: 99, prefix: 2 }),
      )
      if (scheduler.addGroup(sequences)) groups.push({ sequences, steps: 1 + random.below(12) })
    }
    const leaving = groups[random.below(Math.max(1, groups.length))]
    if (random.next() < 0.02) for (const sequence of leaving?.sequences ?? []) scheduler.finish(sequence)
    const batch = scheduler.next(1 + random.below(8))
    if (batch === null) continue
    assert.ok(batch.rows <= own.rowsMax && scheduler.running <= own.rowsMax, name)
    cache.play(batch, name)
    scheduler.advance(batch)
    const ran = new Set(sequencesOf(batch))
    for (const single of singles) if (ran.has(single)) sample(scheduler, single)
    for (const group of groups) if (ran.has(group.sequences[0] as TestSequence)) search(scheduler, group, random, name)
  }
  assert.ok(
    [...singles, ...groups.flatMap(({ sequences }) => sequences)].every(({ state }) => state === 'finished'),
    name,
  )
}

/** What a beam search would do after a step, with parents and tokens at random. */
function search(scheduler: Scheduler<TestSequence>, group: TestGroup, random: Random, name: string): void {
  const { sequences } = group
  const first = sequences[0] as TestSequence
  if (first.state !== 'decoding') return
  assert.ok(first.output.length === 0 || sequences.every(({ row }) => row >= 0), `${name}: all rows or none`)
  if (group.steps-- === 0) {
    for (const sequence of sequences) scheduler.finish(sequence)
    return
  }
  const parents = sequences.map(() => (first.output.length === 0 ? 0 : random.below(sequences.length)))
  const outputs = sequences.map(({ output }) => output)
  scheduler.reorder(first, parents)
  sequences.forEach((sequence, i) => {
    sequence.output = [...(outputs[parents[i] as number] as number[]), -1 - random.below(3)]
  })
}

test('a permutation copies nothing, and a parent of two copies only what came since they parted', () => {
  const scheduler = new Scheduler<TestSequence>({ rowsMax: 4, prefillTokensMax: 64, waitingMax: 8 })
  const cache = new TestCache()
  const sequences = [1, 2, 3].map((id) => new TestSequence(id, { prompt: [1, 2, 3, 4], prefix: 5 }))
  assert.ok(scheduler.addGroup(sequences))
  const go = (parents: readonly number[] | null): number => {
    const before = cache.copied
    const outputs = sequences.map(({ output }) => output)
    if (parents !== null) scheduler.reorder(sequences[0] as TestSequence, parents)
    parents?.forEach((parent, i) => {
      const sequence = sequences[i] as TestSequence
      sequence.output = [...(outputs[parent] as number[]), -i - 1]
    })
    const batch = scheduler.next()
    assert.ok(batch)
    cache.play(batch, 'group')
    scheduler.advance(batch)
    return cache.copied - before
  }
  go(null)
  assert.equal(cache.read, 4, 'the first alone reads the prompt')
  assert.equal(go([0, 0, 0]), 2 * (5 + 4), 'the others start from it')
  assert.equal(go([2, 0, 1]), 0)
  assert.equal(go([0, 1, 2]), 0)
  assert.equal(go([1, 1, 2]), 3, 'three tokens were made since the prompt')
  assert.equal(go([0, 1, 1]), 4)
  assert.equal(go([1, 0, 0]), 2, 'rows 0 and 2 were the same until two tokens ago')
})

test('a group waits until it has all its rows, and nobody overtakes it', () => {
  const scheduler = new Scheduler<TestSequence>({ rowsMax: 4, prefillTokensMax: 64, waitingMax: 8 })
  const singles = [1, 2, 3].map((id) => new TestSequence(id, { prompt: 2, length: 4 }))
  scheduler.add([singles[0] as TestSequence, singles[1] as TestSequence])
  const ids = (): string => {
    const batch = scheduler.next()
    if (batch === null) return 'idle'
    scheduler.advance(batch)
    const ran = sequencesOf(batch)
    for (const each of ran) sample(scheduler, each)
    return ran.map(({ id }) => id).join()
  }
  assert.equal(ids(), '1,2')
  const group = [10, 11, 12].map((id) => new TestSequence(id, { prompt: 3, length: 99 }))
  scheduler.addGroup(group)
  scheduler.add([singles[2] as TestSequence])
  assert.equal(ids(), '1,2')
  assert.equal(ids(), '1,2')
  assert.equal(ids(), '1,2')
  assert.equal(ids(), '10,3', 'three rows for the group, one for the next in line')
  for (const each of group) scheduler.finish(each)
  assert.equal(scheduler.running, 1)
})

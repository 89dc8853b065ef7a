// The scheduler's promises: nobody waits for a whole prompt, limits hold, rows stay together, nothing is read twice.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scheduler, type SchedulerLimits } from '../../src/engine/scheduler.ts'
import { Random } from '../../src/random/random.ts'
import { drafts, sampleAll, step, TestCache, type TestOptions, TestSequence } from './scheduling.ts'

const limits: SchedulerLimits = { rowsMax: 4, prefillTokensMax: 8, waitingMax: 8 }
const make = (id: number, prompt: TestOptions['prompt'], more: Partial<TestOptions> = {}): TestSequence =>
  new TestSequence(id, { prompt, ...more })
const three = (prompt: number): [TestSequence, TestSequence, TestSequence] => [
  make(1, prompt),
  make(2, prompt),
  make(3, prompt),
]

test('a late request is read in the step in which the others decode, and decodes with them in the next', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([make(1, 3)])
  assert.equal(step(scheduler), 'prefill 1')
  assert.equal(step(scheduler), 'decode 1')
  scheduler.add([make(2, 3)])
  assert.equal(step(scheduler), 'decode 1 prefill 2')
  assert.equal(step(scheduler), 'decode 1,2')
})

test('prompts that fit the budget together are read in together', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([make(1, 4), make(2, 3), make(3, 1)])
  // 1 and 2 padded to 4 tokens each are the budget of 8; a third row would make it 12.
  assert.equal(step(scheduler), 'prefill 1,2')
  assert.equal(step(scheduler), 'decode 1,2 prefill 3')
})

test('a long prompt is read in pieces as large as each step may carry, and decoding goes on in all of them', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([make(1, 2)])
  step(scheduler)
  const long = make(2, 20)
  scheduler.add([long])
  const read: number[] = []
  for (const pieceTokens of [3, 8, 100, 1]) {
    assert.equal(step(scheduler, pieceTokens), 'decode 1 prefill 2')
    read.push(long.prefilled)
  }
  assert.deepEqual(read, [3, 11, 19, 20])
  assert.equal(step(scheduler), 'decode 1,2')
})

test('the row of one that leaves is filled by the last one', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const [a, b, c] = three(2)
  scheduler.add([a, b, c])
  assert.equal(step(scheduler), 'prefill 1,2,3')
  scheduler.finish(a)
  const batch = scheduler.next()
  assert.deepEqual(batch?.copies, [{ from: 2, to: 0, since: 0, until: 2 }])
  assert.deepEqual(batch?.decode?.sequences, [c, b])
  assert.equal(a.state, 'finished')
})

test('one that is being read in stays behind the decoding ones when one of them leaves', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const [a, b, c] = three(2)
  scheduler.add([a, b, c])
  step(scheduler)
  scheduler.add([make(4, 12)])
  assert.equal(step(scheduler), 'decode 1,2,3 prefill 4')
  scheduler.finish(a)
  const batch = scheduler.next()
  assert.deepEqual(batch?.copies, [
    { from: 2, to: 0, since: 0, until: 3 },
    { from: 3, to: 2, since: 0, until: 8 },
  ])
  assert.deepEqual(
    batch?.decode?.sequences.map(({ id }) => id),
    [3, 2],
  )
})

test('a list that does not fit the line is refused whole', () => {
  const scheduler = new Scheduler<TestSequence>({ ...limits, waitingMax: 3 })
  assert.equal(scheduler.add([make(1, 1), make(2, 1)]), true)
  assert.equal(scheduler.add([make(3, 1), make(4, 1)]), false)
  assert.equal(scheduler.waiting, 2)
  assert.equal(scheduler.add([make(5, 1)]), true)
})

test('cancelling frees a place in line and a row', () => {
  const scheduler = new Scheduler<TestSequence>({ ...limits, rowsMax: 1, waitingMax: 1 })
  const [first, second, third] = three(1)
  scheduler.add([first])
  step(scheduler)
  scheduler.add([second])
  assert.equal(scheduler.add([third]), false)
  scheduler.finish(second)
  assert.equal(scheduler.add([third]), true)
  scheduler.finish(first)
  assert.equal(step(scheduler), 'prefill 3')
})

test('samples of one input read the prompt once', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const cache = new TestCache()
  const prompt = [1, 2, 3, 4, 5, 6, 7]
  scheduler.add([1, 2, 3].map((id) => make(id, prompt, { prefix: 2 })))
  assert.equal(step(scheduler, 4, cache), 'prefill 1')
  assert.equal(step(scheduler, 4, cache), 'prefill 1')
  assert.equal(step(scheduler, 4, cache), 'decode 1 prefill 2,3')
  assert.equal(cache.read, 7 + 2 + 1)
  assert.equal(scheduler.reusedTokens, 12)
})

test('a row that is free is gone on from where the beginning is the same, and behind the same prefix only', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const cache = new TestCache()
  const run = (sequence: TestSequence): number => {
    const before = cache.read
    scheduler.add([sequence])
    while (step(scheduler, 8, cache) !== 'idle');
    return cache.read - before
  }
  assert.equal(run(make(1, [1, 2, 3, 4, 5], { prefix: 1, length: 1 })), 5)
  assert.equal(run(make(2, [1, 2, 3, 9], { prefix: 1, length: 1 })), 1)
  assert.equal(run(make(3, [1, 2, 3, 9], { prefix: 1, length: 1 })), 1)
  assert.equal(run(make(4, [1, 2, 3, 9], { prefix: 2, length: 1 })), 4)
  assert.equal(cache.copied, 0)
})

test('sources of several rows are read in one step, up to a thousand positions, while many wait', () => {
  const scheduler = new Scheduler<TestSequence>({ rowsMax: 16, prefillTokensMax: 8, waitingMax: 16 })
  const cache = new TestCache()
  scheduler.add(Array.from({ length: 10 }, (_, i) => make(i + 1, [1], { source: 256, length: 20 })))
  assert.equal(step(scheduler, 8, cache), 'prefill 1,2,3,4')
  assert.equal(step(scheduler, 8, cache), 'decode 1,2,3,4 prefill 5,6,7,8')
  assert.equal(step(scheduler, 8, cache), 'decode 1,2,3,4,5,6,7,8 prefill 9,10')
  // Two in line are few beside ten that decode: they come one by one, unless they are short.
  scheduler.add([11, 12].map((id) => make(id, [1], { source: 256 })))
  assert.match(step(scheduler, 8, cache), / prefill 11$/)
  assert.match(step(scheduler, 8, cache), / prefill 12$/)
  scheduler.add([13, 14].map((id) => make(id, [1], { source: 4 })))
  assert.match(step(scheduler, 8, cache), / prefill 13,14$/)
})

test('a source is read whole, whatever its length; prompts keep to their own limit beside it', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([make(1, [1], { source: 5000 }), make(2, [1], { source: 5 })])
  assert.equal(step(scheduler, 8), 'prefill 1')
  assert.equal(step(scheduler, 8), 'decode 1 prefill 2')
  const long = new Scheduler<TestSequence>(limits)
  long.add([1, 2, 3].map((id) => make(id, [1, 2, 3, id], { source: 5 })))
  assert.equal(step(long, 8), 'prefill 1,2')
})

test('drafts that do not come true are cut off before the next step, and none is tried while a prompt is read', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const [a, b] = [make(1, 3), make(2, 2)]
  scheduler.add([a, b])
  step(scheduler)
  const batch = scheduler.next(8, () => [[7, 8, 9], [7]])
  assert.deepEqual(
    batch?.decode?.tokens.map((tokens) => tokens.slice(1)),
    [[7, 8, 9], [7]],
  )
  assert.equal(batch?.decode?.every, true)
  assert.ok(batch)
  scheduler.advance(batch)
  a.output.push(7, 5)
  b.output.push(7, 6)
  scheduler.retract(a, 2)
  scheduler.add([make(3, 2)])
  const next = scheduler.next(8, () => assert.fail('a prompt is read'))
  // 3 of the prompt, the first token, and 7.
  assert.deepEqual(next?.copies, [{ from: 0, to: 0, since: 5, until: 5 }])
  assert.deepEqual(next?.decode?.tokens, [[5], [6]])
})

test('random traffic: limits hold, rows stay together, all come to their end, tokens made are tokens read', () => {
  const seed = Number(process.env['SEED'] ?? 20261101)
  for (let round = 0; round < 40; round++) traffic(new Random(seed + round), `SEED=${seed + round}`)
})

/** Arrivals, cancellations, pieces and steps at random; what a session would hold is kept in a cache and compared. */
function traffic(random: Random, name: string): void {
  const own = { rowsMax: 1 + random.below(5), prefillTokensMax: 1 + random.below(24), waitingMax: 1 + random.below(10) }
  const scheduler = new Scheduler<TestSequence>(own)
  const cache = new TestCache()
  const all: TestSequence[] = []
  const work = (): boolean => scheduler.waiting + scheduler.running > 0
  for (let turn = 0; turn < 400 || work(); turn++) {
    assert.ok(turn < 20_000, `${name}: somebody starves`)
    for (let arrivals = turn < 400 && random.next() < 0.2 ? 1 + random.below(3) : 0; arrivals > 0; arrivals--) {
      const sequence = randomSequence(random, all.length)
      if (scheduler.add([sequence])) all.push(sequence)
    }
    const victim = all[random.below(Math.max(1, all.length))]
    if (random.next() < 0.05 && victim !== undefined) scheduler.finish(victim)
    const pieceTokens = 1 + random.below(30)
    const batch = scheduler.next(pieceTokens, (rows) =>
      random.next() < 0.5 ? rows.map((sequence) => drafts(random, sequence)) : null,
    )
    assert.ok(scheduler.waiting <= own.waitingMax && scheduler.running <= own.rowsMax, name)
    if (batch === null) continue
    const { prefill } = batch
    const width = Math.max(0, ...(prefill?.tokens.map(({ length }) => length) ?? []))
    const carried = width * (prefill?.sequences.length ?? 0)
    assert.ok(carried <= Math.min(pieceTokens, own.prefillTokensMax), `${name}: ${carried} tokens`)
    const decoding = all.filter(({ state }) => state === 'decoding')
    assert.equal(batch.decode?.sequences.length ?? 0, decoding.length, `${name}: all that decode do so in every step`)
    cache.play(batch, name)
    scheduler.advance(batch)
    sampleAll(scheduler, batch)
  }
  assert.ok(
    all.every(({ state }) => state === 'finished'),
    name,
  )
}

/** Prompts are cut from few texts, so that many begin alike. */
function randomSequence(random: Random, id: number): TestSequence {
  const text = 1 + random.below(3)
  const shared = Array.from({ length: random.below(30) }, (_, i) => 100 * text + i)
  const own = Array.from({ length: 1 + random.below(8) }, (_, i) => 1000 * (id + 1) + i)
  const client = `c${random.below(3)}`
  return make(id, [...shared, ...own], { length: 1 + random.below(12), prefix: random.below(3), client })
}

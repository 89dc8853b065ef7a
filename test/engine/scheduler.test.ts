// The scheduler's promises: first come first served, nobody starves, limits hold, rows stay together.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scheduler, type SchedulerLimits } from '../../src/engine/scheduler.ts'
import type { Batch, Sequence } from '../../src/engine/sequence.ts'
import { Random } from '../../src/random/random.ts'

class TestSequence implements Sequence {
  readonly id: number
  readonly prompt: readonly number[]
  readonly past = null
  readonly output: number[] = []
  readonly length: number
  state: Sequence['state'] = 'waiting'
  row = -1
  prefilled = 0
  arrivedAt = 0
  startedAt = -1

  constructor(id: number, promptLength: number, length: number) {
    this.id = id
    this.prompt = Array.from({ length: promptLength }, (_, i) => 1000 * id + i)
    this.length = length
  }
}

const limits: SchedulerLimits = { rowsMax: 4, prefillTokensMax: 8, waitingMax: 8 }

test('a late request joins the running batch at the next step', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([new TestSequence(1, 3, 9)])
  assert.equal(step(scheduler), 'prefill 1')
  assert.equal(step(scheduler), 'decode 1')
  scheduler.add([new TestSequence(2, 3, 9)])
  assert.equal(step(scheduler), 'prefill 2')
  assert.equal(step(scheduler), 'decode 1,2')
})

test('prompts that fit the budget together are read in together', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([new TestSequence(1, 4, 9), new TestSequence(2, 3, 9), new TestSequence(3, 1, 9)])
  // 1 and 2 padded to 4 tokens each are the budget of 8; a third row would make it 12.
  assert.equal(step(scheduler), 'prefill 1,2')
  assert.equal(step(scheduler), 'decode 1,2')
  assert.equal(step(scheduler), 'prefill 3')
})

test('a long prompt is read in pieces, and decoding goes on between them', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add([new TestSequence(1, 2, 9)])
  assert.equal(step(scheduler), 'prefill 1')
  const long = new TestSequence(2, 20, 9)
  scheduler.add([long])
  const steps = Array.from({ length: 7 }, () => step(scheduler))
  const read = ['prefill 2', 'decode 1', 'prefill 2', 'decode 1', 'prefill 2', 'decode 1,2']
  assert.deepEqual(steps, ['decode 1', ...read])
  assert.equal(long.prefilled, 20)
})

test('the row of one that leaves is filled by the last one', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const [a, b, c] = three(2)
  scheduler.add([a, b, c])
  assert.equal(step(scheduler), 'prefill 1,2,3')
  scheduler.finish(a)
  const batch = scheduler.next()
  assert.deepEqual(batch?.moves, [{ from: 2, to: 0 }])
  assert.deepEqual(batch?.sequences, [c, b])
  assert.equal(a.state, 'finished')
})

test('one that is being read in stays behind the decoding ones when one of them leaves', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const [a, b, c] = three(2)
  scheduler.add([a, b, c])
  step(scheduler)
  scheduler.add([new TestSequence(4, 12, 9)])
  step(scheduler)
  assert.equal(step(scheduler), 'prefill 4')
  scheduler.finish(a)
  const batch = scheduler.next()
  assert.deepEqual(batch?.moves, [
    { from: 2, to: 0 },
    { from: 3, to: 2 },
  ])
  assert.deepEqual(
    batch?.sequences.map(({ id }) => id),
    [3, 2],
  )
})

test('a group that does not fit the line is refused whole', () => {
  const scheduler = new Scheduler<TestSequence>({ ...limits, waitingMax: 3 })
  assert.equal(scheduler.add([new TestSequence(1, 1, 1), new TestSequence(2, 1, 1)]), true)
  assert.equal(scheduler.add([new TestSequence(3, 1, 1), new TestSequence(4, 1, 1)]), false)
  assert.equal(scheduler.waiting, 2)
  assert.equal(scheduler.add([new TestSequence(5, 1, 1)]), true)
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

test('random traffic: limits hold, rows stay together, all come in order and to their end', () => {
  const seed = Number(process.env['SEED'] ?? 20261101)
  for (let round = 0; round < 30; round++) traffic(new Random(seed + round), `SEED=${seed + round}`)
})

/** Arrivals, cancellations and steps at random; what a session would hold is kept in `cache` and compared. */
function traffic(random: Random, name: string): void {
  const own = { rowsMax: 1 + random.below(5), prefillTokensMax: 1 + random.below(24), waitingMax: 1 + random.below(10) }
  const scheduler = new Scheduler<TestSequence>(own)
  const cache: number[][] = []
  const all: TestSequence[] = []
  const startOrder: number[] = []
  const work = (): boolean => scheduler.waiting + scheduler.running > 0
  for (let turn = 0; turn < 400 || work(); turn++) {
    assert.ok(turn < 20_000, `${name}: somebody starves`)
    if (turn < 400 && random.next() < 0.3) {
      const sequence = new TestSequence(all.length, 1 + random.below(40), 1 + random.below(12))
      if (scheduler.add([sequence])) all.push(sequence)
    }
    const victim = all[random.below(Math.max(1, all.length))]
    if (random.next() < 0.05 && victim !== undefined) scheduler.finish(victim)
    const batch = scheduler.next()
    assert.ok(scheduler.waiting <= own.waitingMax && scheduler.running <= own.rowsMax, name)
    if (batch === null) continue
    for (const { id } of batch.seeds) startOrder.push(id)
    play(batch, cache, own, name)
    scheduler.advance(batch)
    for (const sequence of batch.sequences) sample(scheduler, sequence)
  }
  assert.deepEqual(
    startOrder,
    [...startOrder].sort((a, b) => a - b),
    `${name}: not first come, first served`,
  )
  assert.ok(
    all.every(({ state }) => state === 'finished'),
    name,
  )
}

/** Does to `cache` what the batch says, and checks that each row then holds its sequence and nothing else. */
function play(batch: Batch<TestSequence>, cache: number[][], own: SchedulerLimits, name: string): void {
  for (const { from, to } of batch.moves) cache[to] = [...(cache[from] as number[])]
  for (const { row } of batch.seeds) cache[row] = []
  const width = Math.max(...batch.tokens.map(({ length }) => length))
  if (batch.phase === 'prefill') assert.ok(width * batch.sequences.length <= own.prefillTokensMax, `${name}: budget`)
  batch.sequences.forEach((sequence, i) => {
    assert.equal(sequence.row, batch.start + i, `${name}: rows are neighbours`)
    const tokens = batch.tokens[i] as readonly number[]
    assert.ok(tokens.length >= 1, name)
    const row = cache[sequence.row] as number[]
    row.push(...tokens)
    const expected = [...sequence.prompt, ...sequence.output].slice(0, row.length)
    assert.deepEqual(row, expected, `${name}: row ${sequence.row} holds sequence ${sequence.id}`)
  })
}

function sample(scheduler: Scheduler<TestSequence>, sequence: TestSequence): void {
  if (sequence.state !== 'decoding') return
  sequence.output.push(-1 - sequence.output.length)
  if (sequence.output.length === sequence.length) scheduler.finish(sequence)
}

function three(promptLength: number): [TestSequence, TestSequence, TestSequence] {
  return [1, 2, 3].map((id) => new TestSequence(id, promptLength, 9)) as [TestSequence, TestSequence, TestSequence]
}

/** Runs one step with made-up tokens, and says what ran. */
function step(scheduler: Scheduler<TestSequence>): string {
  const batch = scheduler.next()
  if (batch === null) return 'idle'
  scheduler.advance(batch)
  for (const sequence of batch.sequences) sample(scheduler, sequence)
  return `${batch.phase} ${batch.sequences.map(({ id }) => id).join()}`
}

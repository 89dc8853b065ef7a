// Who comes next: one client's many requests do not make another's single one wait, nobody starves, and shares are even.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scheduler } from '../../src/engine/scheduler.ts'
import { sequencesOf } from '../../src/engine/sequence.ts'
import { Random } from '../../src/random/random.ts'
import { sample, TestSequence } from './scheduling.ts'

const limits = { rowsMax: 2, prefillTokensMax: 8, waitingMax: 400 }

test('one client has 200 inputs in line, and the single one of another waits for one of them at most', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  scheduler.add(Array.from({ length: 200 }, (_, i) => new TestSequence(i, { prompt: 4, length: 5, client: 'many' })))
  for (let i = 0; i < 20; i++) turn(scheduler)
  const single = new TestSequence(200, { prompt: 4, client: 'single' })
  scheduler.add([single])
  assert.ok(startsBefore(scheduler, single) <= 1)
})

for (const [source, what] of [
  [0, ''],
  [4, ', each input with a source of its own'],
] as const) {
  test(`the same holds for the prefixes of one client${what}`, () => {
    const scheduler = new Scheduler<TestSequence>(limits)
    const shape = { prompt: 4, length: 5, source }
    scheduler.add(Array.from({ length: 200 }, (_, i) => new TestSequence(i, { ...shape, prefix: 1 })))
    for (let i = 0; i < 20; i++) turn(scheduler)
    const other = new TestSequence(200, { ...shape, prefix: 2 })
    scheduler.add([other])
    assert.ok(startsBefore(scheduler, other) <= 1)
  })
}

test('what a prefix was served before does not count once it has no row', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const earlier = Array.from({ length: 20 }, (_, i) => new TestSequence(i, { prompt: 4, length: 9, prefix: 1 }))
  scheduler.add(earlier)
  while (scheduler.waiting + scheduler.running > 0) turn(scheduler)
  const line = [2, 3, 1, 4].map((prefix) => new TestSequence(100 + prefix, { prompt: 8, prefix }))
  scheduler.add(line)
  assert.equal(startsBefore(scheduler, line[2] as TestSequence), 2)
})

test('of one client nobody who came earlier, and whose prefix has no more rows, is passed over', () => {
  const seed = Number(process.env['SEED'] ?? 79)
  for (let round = 0; round < 20; round++) {
    const random = new Random(seed + round)
    const scheduler = new Scheduler<TestSequence>({ ...limits, rowsMax: 1 + random.below(6), prefillTokensMax: 40 })
    const inLine: TestSequence[] = []
    let running: TestSequence[] = []
    for (let step = 0; step < 200; step++) {
      for (let i = random.below(3); i > 0 && inLine.length < 40; i--) {
        const shape = { prompt: 1 + random.below(20), length: 1 + random.below(9), prefix: 1 + random.below(8) }
        const sequence = new TestSequence(1000 * round + step * 3 + i, shape)
        scheduler.add([sequence])
        inLine.push(sequence)
      }
      for (const started of turn(scheduler)) {
        const rowsOf = ({ prefixId }: TestSequence): number =>
          running.filter((other) => other.prefixId === prefixId).length
        const place = inLine.indexOf(started)
        const passed = inLine.slice(0, place).find((other) => rowsOf(other) <= rowsOf(started))
        assert.equal(passed, undefined, `SEED=${seed + round}, step ${step}`)
        inLine.splice(place, 1)
        running.push(started)
      }
      running = running.filter(({ state }) => state !== 'finished')
    }
  }
})

test('a thousand clients and more in line: nobody is forgotten', () => {
  const scheduler = new Scheduler<TestSequence>({ ...limits, waitingMax: 3000 })
  const all = Array.from({ length: 2500 }, (_, i) => new TestSequence(i, { prompt: 1, length: 1, client: `c${i}` }))
  for (const sequence of all) scheduler.add([sequence])
  while (scheduler.waiting + scheduler.running > 0) assert.ok(turn(scheduler).length > 0, 'it starves')
})

test('one prefix of one client: first come, first served', () => {
  const scheduler = new Scheduler<TestSequence>(limits)
  const all = Array.from({ length: 12 }, (_, i) => new TestSequence(i, { prompt: 1 + (i % 5), length: 1 + (i % 3) }))
  scheduler.add(all)
  const started: number[] = []
  while (scheduler.waiting + scheduler.running > 0) started.push(...turn(scheduler).map(({ id }) => id))
  assert.deepEqual(
    started,
    all.map(({ id }) => id),
  )
})

test('whoever comes after a rest starts after at most one request of each other client in line', () => {
  const seed = Number(process.env['SEED'] ?? 77)
  for (let round = 0; round < 30; round++) {
    const random = new Random(seed + round)
    const scheduler = new Scheduler<TestSequence>({ ...limits, rowsMax: 1 + random.below(4) })
    const clients = 1 + random.below(6)
    const list = Array.from({ length: 100 }, (_, id) => {
      const client = `c${random.below(clients)}`
      return new TestSequence(id, { prompt: 1 + random.below(20), length: 1 + random.below(9), client })
    })
    scheduler.add(list)
    for (let i = random.below(60); i > 0; i--) turn(scheduler)
    const newcomer = new TestSequence(1000, { prompt: 3, client: 'new' })
    scheduler.add([newcomer])
    assert.ok(startsBefore(scheduler, newcomer) <= clients, `SEED=${seed + round}`)
  }
})

test('clients that always have something in line are served as many tokens, up to twice what the rows hold', () => {
  const seed = Number(process.env['SEED'] ?? 78)
  const random = new Random(seed)
  const [promptMax, lengthMax, rowsMax] = [30, 20, 4]
  const scheduler = new Scheduler<TestSequence>({ rowsMax, prefillTokensMax: 16, waitingMax: 100 })
  const served = new Map<string, number>()
  let id = 0
  // Short requests of one, long ones of the other, and a third with a few of each.
  const arrive = (client: string, share: number): void => {
    const prompt = 1 + random.below(Math.ceil(share * promptMax))
    const length = 1 + random.below(Math.ceil(share * lengthMax))
    scheduler.add([new TestSequence(id++, { prompt, length, client })])
  }
  const shares = { short: 0.1, long: 1, middle: 0.5 }
  for (const [client, share] of Object.entries(shares)) for (let i = 0; i < 30; i++) arrive(client, share)
  // Sheng et al. 2024: the difference stays below twice the larger of a prompt and of what a batch holds.
  const bound = 2 * rowsMax * (promptMax + lengthMax)
  for (let i = 0; i < 3000; i++) {
    const batch = scheduler.next()
    assert.ok(batch)
    scheduler.advance(batch)
    for (const part of [batch.decode, batch.prefill]) {
      part?.sequences.forEach(({ client }, s) => {
        served.set(client, (served.get(client) ?? 0) + (part.tokens[s]?.length ?? 0))
      })
    }
    for (const sequence of sequencesOf(batch)) {
      sample(scheduler, sequence)
      if (sequence.state === 'finished') arrive(sequence.client, shares[sequence.client as keyof typeof shares])
    }
    const counts = Object.keys(shares).map((client) => served.get(client) ?? 0)
    assert.ok(Math.max(...counts) - Math.min(...counts) <= bound, `SEED=${seed}, step ${i}: ${counts.join()}`)
  }
})

/** One step; answers those that got a row in it. */
function turn(scheduler: Scheduler<TestSequence>): TestSequence[] {
  const batch = scheduler.next()
  if (batch === null) return []
  const started = (batch.prefill?.sequences ?? []).filter(({ prefilled }) => prefilled === 0)
  scheduler.advance(batch)
  for (const sequence of sequencesOf(batch)) sample(scheduler, sequence)
  return started
}

/** How many others get a row before `sequence` does. */
function startsBefore(scheduler: Scheduler<TestSequence>, sequence: TestSequence): number {
  for (let others = 0, turns = 0; ; turns++) {
    assert.ok(turns < 10_000, 'it starves')
    const started = turn(scheduler)
    const place = started.indexOf(sequence)
    if (place >= 0) return others + place
    others += started.length
  }
}

// The memory plan: what lives at the same time never overlaps, whatever the lifetimes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { planMemory, type Lifetime } from '../../src/runtime/memory-plan.ts'

const seed = Number(process.env['SEED'] ?? 7)
const alignment = 256

function draw(random: Random): Lifetime[] {
  const count = 1 + Math.floor(random.next() * 60)
  return Array.from({ length: count }, () => {
    const first = Math.floor(random.next() * 40)
    const isLong = random.next() < 0.1
    const last = isLong ? Infinity : first + Math.floor(random.next() * 10)
    return { bytes: 1 + Math.floor(random.next() ** 3 * 100_000), first, last }
  })
}

function assertApart(lifetimes: readonly Lifetime[], offsets: readonly number[], bytes: number, shown: string): void {
  for (const [i, a] of lifetimes.entries()) {
    const start = offsets[i] as number
    assert.equal(start % alignment, 0)
    assert.ok(start >= 0 && start + a.bytes <= bytes, `buffer ${i} ends beyond the arena, ${shown}`)
    for (const [j, b] of lifetimes.entries()) {
      const other = offsets[j] as number
      if (j <= i || a.last < b.first || b.last < a.first) continue
      assert.ok(start + a.bytes <= other || other + b.bytes <= start, `buffers ${i} and ${j} overlap, ${shown}`)
    }
  }
}

test('of 500 random sets of buffers no two that live at the same time overlap, and none costs more than all side by side', () => {
  for (let round = 0; round < 500; round++) {
    const lifetimes = draw(new Random(seed + round))
    const { offsets, bytes } = planMemory(lifetimes, { alignment })
    assertApart(lifetimes, offsets, bytes, `seed ${seed + round}`)
    const sum = lifetimes.reduce((all, { bytes }) => all + Math.ceil(bytes / alignment) * alignment, 0)
    assert.ok(bytes <= sum, `${bytes} of ${sum} bytes, seed ${seed + round}`)
  }
})

test('a chain of steps, each reading what the last one wrote, takes the memory of two', () => {
  const chain = Array.from({ length: 100 }, (_, i) => ({ bytes: 1000, first: i, last: i + 1 }))
  assert.equal(planMemory(chain, { alignment }).bytes, 2 * 1024)
})

test('with a gap nothing is shared, and so many bytes lie free on both sides of every buffer', () => {
  const gap = 512
  const lifetimes = draw(new Random(seed))
  const { offsets, bytes } = planMemory(lifetimes, { alignment, gap })
  const ranges = lifetimes.map((each, i) => [offsets[i] as number, (offsets[i] as number) + each.bytes] as const)
  let end = 0
  for (const [start, stop] of ranges) {
    assert.ok(start - end >= gap, `only ${start - end} bytes before ${start}, seed ${seed}`)
    end = stop
  }
  assert.ok(bytes - end >= gap)
})

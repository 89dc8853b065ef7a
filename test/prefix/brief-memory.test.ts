// Answers that are remembered for a short time: so long and no longer, and not more than so many.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BriefMemory } from '../../src/prefix/brief-memory.ts'

test('an answer is there until its time is over', () => {
  let nowMs = 0
  const memory = new BriefMemory<number>(100, 10, () => nowMs)
  memory.set('a', 1)
  nowMs = 99
  assert.equal(memory.get('a'), 1)
  nowMs = 100
  assert.equal(memory.get('a'), undefined)
})

test('the oldest goes when there are too many, and all when it is cleared', () => {
  const memory = new BriefMemory<number>(100, 2, () => 0)
  memory.set('a', 1)
  memory.set('b', 2)
  memory.set('a', 3)
  memory.set('c', 4)
  assert.deepEqual([memory.get('a'), memory.get('b'), memory.get('c')], [3, undefined, 4])
  memory.clear()
  assert.equal(memory.get('a'), undefined)
})

test('an answer that was on its way while all was cleared is given and not remembered', async () => {
  const memory = new BriefMemory<number>(100, 2, () => 0)
  const stale = await memory.getOr('a', async () => {
    memory.clear()
    return 1
  })
  assert.equal(stale, 1)
  assert.equal(memory.get('a'), undefined)
  assert.equal(await memory.getOr('a', async () => 2), 2)
  assert.equal(await memory.getOr('a', async () => assert.fail('it is remembered')), 2)
})

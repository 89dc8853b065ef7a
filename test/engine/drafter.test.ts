// What is tried beside the sure tokens, and what is kept for it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { booksBytesMax, Drafter } from '../../src/engine/drafter.ts'
import { Continuation, Generation } from '../../src/engine/generation.ts'
import { greedy } from '../../src/engine/request.ts'
import { byteTokenizer } from './fake-tokenizer.ts'

/** A text of so many tokens after a prompt, all of them made. */
function made(prefixId: string | null, output: readonly number[], maxNewTokens = 100): Continuation {
  const shared = { prefixId, past: null, forced: { first: null, last: null }, client: '', tokenizer: byteTokenizer }
  const asked = { maxNewTokens, minNewTokens: 0, stop: [], decoding: greedy, logprobs: false, topLogprobs: null }
  const generation = new Generation({ ...shared, ...asked, usage: { prefixTokens: 0, inputTokens: 1 } })
  const continuation = new Continuation(generation, 0, { tokens: [1], source: null, key: '' }, 0)
  continuation.output.push(...output)
  return continuation
}

const text = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]

/** Has seen a text often, and steps that cost `ms` by their positions. */
function taught(ms: (positions: number) => number, tokensMax = 7): Drafter {
  const drafter = new Drafter(tokensMax)
  for (let i = 0; i < 30; i++) drafter.learn([made('p', text)])
  for (let i = 0; i < 200; i++) drafter.observe(1 + (i % 8), ms(1 + (i % 8)))
  return drafter
}

test('where positions cost next to nothing what came before is tried, as far as the texts may still go', () => {
  const drafter = taught((positions) => 10 + 0.2 * positions)
  assert.deepEqual(drafter.propose([made('p', text.slice(0, 3))]), [text.slice(3, 10)])
  // Two more tokens are allowed, of which one is sure.
  assert.deepEqual(drafter.propose([made('p', text.slice(0, 3), 5)]), [[text[3]]])
  const [long, short] = drafter.propose([made('p', text.slice(0, 3)), made('p', text.slice(0, 3), 5)]) ?? []
  assert.deepEqual([long?.length, short?.length], [7, 1])
  assert.deepEqual(taught((positions) => 10 + 0.2 * positions, 2).propose([made('p', text.slice(0, 3))]), [
    text.slice(3, 5),
  ])
})

test('where each position costs what a step does nothing is tried, nor for another task, nor by one who may not', () => {
  assert.equal(taught((positions) => 10 * positions).propose([made('p', text.slice(0, 3))]), null)
  assert.equal(taught((positions) => 10 + 0.2 * positions).propose([made('q', text.slice(0, 3))]), null)
  assert.equal(taught((positions) => 10 + 0.2 * positions, 0).propose([made('p', text.slice(0, 3))]), null)
})

test('a step carries so many positions at most: of many rows none tries anything', () => {
  const drafter = taught((positions) => 10 + 0.01 * positions)
  const rows = (count: number): Continuation[] => Array.from({ length: count }, () => made('p', text.slice(0, 3)))
  const drafts = drafter.propose(rows(8))
  assert.ok(drafts?.every(({ length }) => length === 3))
  assert.equal(drafter.propose(rows(17)), null)
})

test('who found nothing worth it eight times looks again eight steps later', () => {
  const drafter = taught((positions) => 10 + 0.2 * positions)
  for (let i = 0; i < 8; i++) assert.equal(drafter.propose([made('q', [90 + i])]), null)
  const known = (): Continuation[] => [made('p', text.slice(0, 3))]
  for (let i = 0; i < 8; i++) assert.equal(drafter.propose(known()), null)
  assert.ok(drafter.propose(known()) !== null)
})

test('books of more prefixes than there is memory for are let go, the least recently used first', () => {
  const drafter = new Drafter(7)
  const flat = (): void => {
    for (let i = 0; i < 50; i++) drafter.observe(1 + (i % 8), 10 + 0.01 * (1 + (i % 8)))
  }
  flat()
  const teach = (id: string): void => {
    for (let i = 0; i < 30; i++) drafter.learn([made(id, text)])
  }
  teach('first')
  teach('used')
  for (let i = 0; drafter.bytes < booksBytesMax - 50_000; i++) drafter.learn([made(`p${i}`, text)])
  const begun = (id: string): Continuation[] => [made(id, text.slice(0, 3))]
  assert.ok(drafter.propose(begun('used')) !== null)
  for (let i = 0; i < 40; i++) drafter.learn([made(`more${i}`, text)])
  assert.ok(drafter.bytes <= booksBytesMax, `${drafter.bytes} bytes`)
  assert.ok(drafter.propose(begun('used')) !== null)
  assert.equal(drafter.propose(begun('first')), null)
})

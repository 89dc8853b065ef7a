// Guesses at what comes next: from the text itself and from earlier ones, and how far they are trusted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DraftBook } from '../../src/engine/draft-book.ts'
import { Random } from '../../src/random/random.ts'

/** Says that all of `text` from `start` on was made. */
function learn(book: DraftBook, text: readonly number[], start: number, isSampled = false): void {
  for (let end = start; end < text.length; end++) book.learn(text, end, isSampled)
}

test('who knows nothing guesses nothing, and the first guess is trusted with nothing', () => {
  const book = new DraftBook()
  assert.equal(book.next([], false), null)
  assert.equal(book.next([1, 2, 3], false), null)
  assert.deepEqual(book.next([1, 2, 3, 1], false), { token: 2, chance: 0 })
})

test('what an input says is copied, once copying has come true', () => {
  const book = new DraftBook()
  // Each text repeats its input, which is another each time.
  for (let i = 0; i < 30; i++) {
    const input = Array.from({ length: 8 }, (_, k) => 100 * i + k)
    learn(book, [...input, 9999, ...input], 9)
  }
  const input = [7001, 7002, 7003, 7004, 7005]
  const guess = book.next([...input, 9999, 7001, 7002, 7003], false)
  assert.equal(guess?.token, 7004)
  assert.ok((guess?.chance ?? 0) > 0.9, `${guess?.chance}`)
})

test('what earlier texts said is said again, and sampled texts are judged by sampled ones alone', () => {
  const book = new DraftBook()
  for (let i = 0; i < 40; i++) learn(book, [1000 + i, 1, 2, 3, 4, 5, 6], 1)
  const guess = book.next([5000, 1, 2, 3], false)
  assert.equal(guess?.token, 4)
  assert.ok((guess?.chance ?? 0) > 0.85, `${guess?.chance}`)
  assert.deepEqual(book.next([5000, 1, 2, 3], true), { token: 4, chance: 0 })
})

test('a chance is the share of guesses that come true', () => {
  const seed = Number(process.env['SEED'] ?? 5)
  const random = new Random(seed)
  const book = new DraftBook()
  // After 1 comes 2 three times of four, and else a number never seen again.
  const texts = Array.from({ length: 800 }, (_, i) => [1, random.next() < 0.75 ? 2 : 10 + i])
  for (const text of texts) learn(book, text, 1)
  const chance = book.next([1], false)?.chance ?? 0
  assert.ok(chance > 0.6 && chance < 0.9, `${chance}, SEED=${seed}`)
})

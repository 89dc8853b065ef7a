// How large a piece of a prompt may be: learnt from the times of steps.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pace } from '../../src/engine/pace.ts'

test('a piece makes a step as much longer as is allowed, whatever the machine', () => {
  for (const speed of [0.3, 1, 20]) {
    const pace = new Pace()
    const stepMs = (tokens: number): number => speed * (30 + 1.2 * tokens)
    for (let i = 0; i < 200; i++) {
      const tokens = i % 2 === 0 ? 0 : pace.pieceTokens(8, 256)
      pace.observe(stepMs(tokens), 8, tokens)
    }
    const times = stepMs(pace.pieceTokens(8, 256)) / stepMs(0)
    assert.ok(times > 1.8 && times <= 2.21, `${times} times at speed ${speed}`)
  }
})

test('nothing decodes: the largest piece; the limit holds; some of a prompt is always read', () => {
  const pace = new Pace()
  assert.equal(pace.pieceTokens(0, 256), 256)
  assert.ok(pace.pieceTokens(1, 256) < 256, 'nothing is known yet')
  assert.equal(pace.pieceTokens(1, 4), 4)
  pace.observe(1, 1, 0)
  pace.observe(10_000, 1, 10)
  assert.ok(pace.pieceTokens(1, 256) >= 1)
})

test('one step that was held up from outside does not change the pace much', () => {
  const pace = new Pace()
  for (let i = 0; i < 50; i++) pace.observe(i % 2 === 0 ? 30 : 70, 8, i % 2 === 0 ? 0 : 32)
  const before = pace.pieceTokens(8, 256)
  pace.observe(5_000, 8, 32)
  assert.ok(pace.pieceTokens(8, 256) > 0.7 * before)
})

test('whoever finds the line full is told to wait as long as places take to become free', () => {
  const pace = new Pace()
  assert.equal(pace.retryAfterSeconds(5), 1)
  for (let i = 0; i < 10; i++) pace.observeEnd(2_000 * i, true)
  assert.equal(pace.retryAfterSeconds(5), 10)
  assert.equal(pace.retryAfterSeconds(1_000), 60)
  // An hour in which nobody waited is no measure.
  pace.observeEnd(20_000, false)
  pace.observeEnd(3_620_000, true)
  pace.observeEnd(3_622_000, true)
  assert.equal(pace.retryAfterSeconds(5), 10)
})

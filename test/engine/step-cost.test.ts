// What a step costs by its positions: a line through what was seen.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StepCost } from '../../src/engine/step-cost.ts'
import { Random } from '../../src/random/random.ts'

function near(actual: number, expected: number, share: number): void {
  assert.ok(Math.abs(actual - expected) <= share * expected, `${actual}, expected is ${expected}`)
}

test('steps of several sizes give the line that they lie on, whatever the machine', () => {
  for (const speed of [0.2, 1, 40]) {
    const cost = new StepCost()
    const ms = (positions: number): number => speed * (10 + 0.7 * positions)
    for (let i = 0; i < 300; i++) cost.observe(1 + (i % 8), ms(1 + (i % 8)))
    for (const positions of [1, 4, 8, 16]) near(cost.expected(positions), ms(positions), 0.02)
  }
})

test('where all steps were of one size a position more is taken to cost little, and never more than in proportion', () => {
  const cost = new StepCost()
  assert.equal(cost.expected(4), 0)
  for (let i = 0; i < 50; i++) cost.observe(1, 10)
  near(cost.expected(1), 10, 1e-9)
  assert.ok(cost.expected(2) > 10 && cost.expected(2) < 11, `${cost.expected(2)}`)
  for (let i = 0; i < 50; i++) cost.observe(2, 500)
  assert.ok(cost.expected(16) <= 16 * cost.expected(1) + 1e-9)
})

test('more positions never cost less, and a step that was held up from outside changes little', () => {
  const cost = new StepCost()
  const random = new Random(2)
  for (let i = 0; i < 100; i++) cost.observe(1 + random.below(8), 10 * (1 + 0.2 * random.next()))
  assert.ok(cost.expected(8) >= cost.expected(1))
  const before = cost.expected(4)
  cost.observe(4, 5_000)
  near(cost.expected(4), before, 0.1)
})

test('what has changed is believed after some hundred steps', () => {
  const cost = new StepCost()
  for (let i = 0; i < 500; i++) cost.observe(1 + (i % 4), 10 + (i % 4))
  for (let i = 0; i < 400; i++) cost.observe(1 + (i % 4), 20 + 4 * (i % 4))
  near(cost.expected(4), 32, 0.1)
})

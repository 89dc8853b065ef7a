// When a training counts as gone wrong, and when it does not.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DivergenceWatch, type StepOutcome } from '../../src/train/divergence.ts'

const vocabulary = 50_257
const outcome = (step: number, loss: number, gradientNorm = 1): StepOutcome => ({
  step,
  examples: [3, 1],
  loss,
  gradientNorm,
  learningRate: 0.5,
})

test('a loss or gradient norm that is no number ends the training at once', () => {
  for (const [loss, norm] of [
    [Number.NaN, 1],
    [Number.POSITIVE_INFINITY, 1],
    [2, Number.NaN],
    [2, Number.POSITIVE_INFINITY],
  ] as const) {
    assert.throws(() => new DivergenceWatch(vocabulary).check(outcome(4, loss, norm)), {
      code: 'training_diverged',
      message: `step 4 gave a loss of ${loss} and a gradient norm of ${norm} on examples 3, 1; a lower learningRate than 0.5 may help`,
      details: { step: 4, examples: [3, 1] },
    })
  }
})

test('a loss of more than three times that of guessing ends it when it lasts, named with step and examples', () => {
  const watch = new DivergenceWatch(vocabulary)
  for (let step = 1; step < 25; step++) watch.check(outcome(step, 40))
  assert.throws(() => watch.check(outcome(25, 40)), {
    code: 'training_diverged',
    message:
      /^step 25 was number 25 in a row with a loss above 32\.5, 3 times that of guessing: 40\.0 on examples 3, 1; a lower/,
  })
})

test('a bad beginning, odd batches, a large gradient and a high loss below the limit are no divergence', () => {
  const watch = new DivergenceWatch(vocabulary)
  for (let step = 1; step < 25; step++) watch.check(outcome(step, 100, 1e9))
  watch.check(outcome(25, 30))
  for (let step = 26; step < 1_000; step++) watch.check(outcome(step, step % 25 === 0 ? 5 : 90))
  for (let step = 1_000; step < 2_000; step++) watch.check(outcome(step, 32))
})

// Held-out inputs at the end of a training: which are asked, how they are scored, and what becomes of those that are not answered.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { evaluateHeldOut, samplesMax, scoredMax } from '../../src/jobs/samples.ts'
import { fakeSampling } from './fake-engine.ts'
import { FakeRun } from './fake-training.ts'

const prefix = await new FakeRun(1, null).prefix()
const never = new AbortController().signal

/** The engine's answer to `word N` is `WORD N`, and case does not count. */
const words = (count: number): { input: string; output: string }[] =>
  Array.from({ length: count }, (_, i) => ({ input: `a word or ${i}`, output: `a word or ${i}` }))

test('held-out inputs are put to the engine with the new prefix; some are shown, more are scored', async () => {
  const parts = fakeSampling()
  const { samples, metrics } = await evaluateHeldOut(prefix, words(100), never, parts)
  assert.equal(samples.length, samplesMax)
  assert.deepEqual(samples[1], { input: 'a word or 1', reference: 'a word or 1', output: 'A WORD OR 1' })
  assert.equal(parts.requests.length, scoredMax)
  assert.ok(Math.abs((metrics['bleu'] ?? 0) - 100) < 1e-9)
  assert.equal(metrics['examples'], scoredMax)
  assert.ok(parts.underWayMax < scoredMax, 'all requests were under way at once')
  assert.deepEqual([parts.open, parts.positions], [0, [1 + 'a word or 10'.length + 64]])
})

test('examples with the same input are one, with several references', async () => {
  const parts = fakeSampling()
  const again = [...words(3), { input: 'a word or 1', output: 'something else' }]
  const { metrics, samples } = await evaluateHeldOut(prefix, again, never, parts)
  assert.deepEqual([metrics['examples'], samples.length], [3, 3])
  assert.ok(Math.abs((metrics['bleu'] ?? 0) - 100) < 1e-9)
})

test('new tokens are as many as the longest reference needs, within the room of the model', async () => {
  const parts = fakeSampling(150)
  await evaluateHeldOut(prefix, [{ input: 'x'.repeat(50), output: 'y'.repeat(90) }, ...words(1)], never, parts)
  assert.deepEqual(
    parts.requests.map(({ maxNewTokens }) => maxNewTokens),
    [91, 91],
  )
  const narrow = fakeSampling(60)
  await evaluateHeldOut(prefix, [{ input: 'x'.repeat(50), output: 'y' }], never, narrow)
  assert.deepEqual([narrow.requests[0]?.maxNewTokens, narrow.positions], [9, [60]])
})

test('without held-out examples no engine is opened', async () => {
  const openEngine = (): Promise<never> => Promise.reject(new Error('opened'))
  const outcome = await evaluateHeldOut(prefix, [], never, { ...fakeSampling(), openEngine })
  assert.deepEqual(outcome, { samples: [], metrics: {} })
})

test('when the time is up the figures are those of the inputs before the first that was not ready', async () => {
  const parts = fakeSampling()
  const heldOut = [...words(4), { input: 'endless', output: '' }, ...words(6).slice(4)]
  const { samples, metrics } = await evaluateHeldOut(prefix, heldOut, never, parts, 300)
  assert.deepEqual([samples.length, metrics['examples'], parts.open], [4, 4, 0])
})

test('a stop ends it at once, and trouble of the engine is thrown when nothing is under way any more', async () => {
  const stop = new AbortController()
  const parts = fakeSampling()
  parts.onRequest = (_request, count) => {
    if (count === 3) stop.abort('cancelled')
  }
  await evaluateHeldOut(prefix, [{ input: 'endless', output: '' }, ...words(9)], stop.signal, parts)
  assert.equal(parts.open, 0)
  const broken = fakeSampling()
  await assert.rejects(evaluateHeldOut(prefix, [...words(3), { input: 'broken', output: '' }], never, broken), /broken/)
  assert.equal(broken.open, 0)
})

// Logits processing: ties, filters, penalties and drawing, against what a full sort would give.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as logitsOf from '../../src/engine/logits.ts'
import { Sampler } from '../../src/engine/sampler.ts'
import { Random } from '../../src/random/random.ts'

const { argmax, draw, keepTopK, keepTopP, logProbability, penalizeRepetition, scaleTemperature } = logitsOf

test('the lowest of the largest logits wins', () => {
  assert.equal(argmax(row(1, 3, 3, 2)), 1)
  assert.equal(argmax(row(-Infinity, -5)), 1)
  assert.throws(() => argmax(row(Number.NaN, Number.NaN)), /no finite logit/)
})

test('top-k keeps every token that ties for the last place', () => {
  const logits = row(3, 1, 2, 2)
  keepTopK(logits, 2)
  assert.deepEqual(logits, row(3, -Infinity, 2, 2))
})

test('top-k keeps what a full sort would keep', () => {
  const random = new Random(41)
  for (let round = 0; round < 200; round++) {
    const logits = randomRow(random, 1 + random.below(60))
    const k = 1 + random.below(logits.length + 3)
    const floor = [...logits].sort((a, b) => b - a)[Math.min(k, logits.length) - 1] as number
    const expected = logits.map((logit) => (logit < floor ? -Infinity : logit))
    keepTopK(logits, k)
    assert.deepEqual(logits, expected)
  }
})

test('top-p keeps the most probable token at least, and the lower of two equals', () => {
  const logits = row(0, 5, 5, 1)
  keepTopP(logits, 1e-9)
  assert.deepEqual(logits, row(-Infinity, 5, -Infinity, -Infinity))
})

test('top-p keeps what a full sort would keep', () => {
  const random = new Random(43)
  for (let round = 0; round < 300; round++) {
    const logits = randomRow(random, 1 + random.below(60))
    const p = round % 10 === 0 ? 1 : 0.02 + 0.97 * random.next()
    const kept = nucleus(logits, p)
    const expected = logits.map((logit, token) => (kept.has(token) ? logit : -Infinity))
    keepTopP(logits, p)
    assert.deepEqual(logits, expected)
  }
})

test('a penalty lowers positive and negative logits alike, once for each token', () => {
  const logits = row(2, -2, 5)
  penalizeRepetition(logits, 2, [0, 1, 1])
  assert.deepEqual(logits, row(1, -4, 5))
})

test('temperature scales the differences, and the smallest one allowed overflows nothing', () => {
  const logits = row(1, 2, 4)
  scaleTemperature(logits, 0.5)
  assert.deepEqual(logits, row(-6, -4, 0))
  const cold = row(100, 99, -100)
  scaleTemperature(cold, Number.MIN_VALUE)
  assert.equal(draw(cold, 0.999), 0)
})

test('the log-probability is that of a softmax, large logits or small', () => {
  const e = Math.exp(1)
  assert.ok(Math.abs(logProbability(row(0, 1, 0), 1) - Math.log(e / (e + 2))) < 1e-12)
  assert.ok(Math.abs(logProbability(row(1000, 1000), 0) - Math.log(0.5)) < 1e-12)
  assert.ok(Math.abs(logProbability(row(-1000, -1001), 1) - Math.log(1 / (e + 1))) < 1e-12)
})

test('tokens are drawn as often as their probability says', () => {
  const random = new Random(47)
  const counts = [0, 0, 0, 0]
  const logits = row(Math.log(1), Math.log(2), -Infinity, Math.log(5))
  for (let i = 0; i < 8000; i++) counts[draw(logits, random.next())]! += 1
  assert.equal(counts[2], 0)
  assert.ok(Math.abs((counts[0] as number) - 1000) < 130)
  assert.ok(Math.abs((counts[1] as number) - 2000) < 180)
  assert.equal(draw(row(0, 0, -Infinity), 1 - 2 ** -53), 1)
})

test('the sampler leaves the logits as they were, and greedy takes the penalty too', () => {
  const logits = row(3, 2.9, 1)
  const sampler = new Sampler(3)
  const decoding = { strategy: 'greedy', temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1, n: 1 } as const
  const sequence = { prompt: [0], output: [], decoding, random: new Random(1) }
  assert.equal(sampler.sample(sequence, logits), 0)
  assert.equal(sampler.sample({ ...sequence, decoding: { ...decoding, repetitionPenalty: 1.5 } }, logits), 1)
  const sampled = { ...decoding, strategy: 'sample', topK: 1, repetitionPenalty: 1.5, temperature: 7 } as const
  assert.equal(sampler.sample({ ...sequence, decoding: sampled }, logits), 1)
  assert.deepEqual(logits, row(3, 2.9, 1))
})

function row(...values: number[]): Float32Array {
  return Float32Array.from(values)
}

/** Few distinct values, so that ties are common. */
function randomRow(random: Random, length: number): Float32Array {
  const coarse = random.next() < 0.5
  return Float32Array.from({ length }, () => (coarse ? random.below(6) : 3 * random.normal()))
}

/** The plain definition: sort all, take until the mass is reached. */
function nucleus(logits: Float32Array, p: number): Set<number> {
  const largest = Math.max(...logits)
  const weights = [...logits].map((logit) => Math.exp(logit - largest))
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const order = [...weights.keys()].sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b)
  const kept = new Set<number>()
  let mass = 0
  for (const token of order) {
    if (kept.size > 0 && p < 1 && mass >= p * sum) break
    kept.add(token)
    mass += weights[token] as number
  }
  return kept
}

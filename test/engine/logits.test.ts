// Choosing tokens: ties, filters, penalties, bans, scores and drawing, against what a full sort would give.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bestTexts } from '../../src/engine/best-of.ts'
import { Candidates } from '../../src/engine/candidates.ts'
import { type History, rulesOf } from '../../src/engine/logit-rules.ts'
import { type Decoding, greedy } from '../../src/engine/request.ts'
import { RowPasses } from '../../src/engine/row-passes.ts'
import { applyRules, completedNgrams, completedSequences } from '../../src/engine/rule-changes.ts'
import { Sampler } from '../../src/engine/sampler.ts'
import { expOfMinus } from '../../src/engine/softmax.ts'
import { Random } from '../../src/random/random.ts'
import { byteTokenizer } from './fake-tokenizer.ts'

const seed = Number(process.env['SEED'] ?? 41)

test('the lowest of the largest logits wins', () => {
  assert.equal(argmax(row(1, 3, 3, 2)), 1)
  assert.equal(argmax(row(-Infinity, -5)), 1)
  assert.equal(argmax(row(0, 1, 2, 3, 4, 9, 9)), 5)
  assert.throws(() => argmax(row(Number.NaN, Number.NaN)), /there is no finite logit/)
  assert.throws(() => argmax(row(-Infinity, -Infinity)), /there is no finite logit/)
  assert.equal(argmax(row(Number.NaN, 1, Number.NaN, 2)), 3)
})

test('passes over a row find what plain loops find, whatever its length, its width and its temperature', () => {
  const random = new Random(seed + 6)
  for (let round = 0; round < 200; round++) {
    const width = [0, 1, 8, 60][round % 4] as number
    const logits = Float32Array.from({ length: 1 + random.below(1000) }, () => width * random.normal() - 40)
    if (round % 3 === 0) logits[random.below(logits.length)] = -Infinity
    if (logits.every((logit) => logit === -Infinity)) continue
    const passes = passesOf(logits)
    const largest = passes.largest()
    assert.equal(largest, Math.max(...logits), `SEED=${seed}, round ${round}`)
    assert.equal(passes.argmax(), logits.indexOf(largest))
    const scale = [0.01, 1, 1.25, 1e6][Math.floor(round / 4) % 4] as number
    const exponents = [...logits].map((logit) => (largest - logit) * scale)
    const sum = exponents.reduce((total, each) => total + Math.exp(-each), 0)
    const mean = exponents.reduce((total, each) => total + (each < 745 ? each * Math.exp(-each) : 0), 0) / sum
    assert.ok(Math.abs(passes.weigh(largest, scale) / sum - 1) < 1e-6, `SEED=${seed}, round ${round}`)
    const both = passes.weighWithMean(largest, scale)
    assert.ok(Math.abs(both.sum / sum - 1) < 1e-6, `SEED=${seed}, round ${round}`)
    assert.ok(Math.abs(both.mean - mean) < 1e-5, `SEED=${seed}, round ${round}: ${both.mean}, not ${mean}`)
  }
})

test('the table of powers is Math.exp to 1e-11, and nothing far below', () => {
  const random = new Random(seed)
  for (let round = 0; round < 5000; round++) {
    const x = 45 * random.next()
    assert.ok(Math.abs(expOfMinus(x) / Math.exp(-x) - 1) < 1e-11, `SEED=${seed}, e^-${x}`)
  }
  assert.deepEqual([0, 45, 1e9, Infinity].map(expOfMinus), [1, 0, 0, 0])
})

test('top-k keeps every token that ties for the last place', () => {
  assert.deepEqual(
    filtered(row(3, 1, 2, 2), (all) => all.keepTopK(2)),
    row(3, -Infinity, 2, 2),
  )
})

test('top-k keeps what a full sort would keep', () => {
  const random = new Random(seed)
  for (let round = 0; round < 200; round++) {
    const logits = randomRow(random, 1 + random.below(round % 2 === 0 ? 60 : 2000))
    const k = 1 + random.below(logits.length + 3)
    const floor = [...logits].sort((a, b) => b - a)[Math.min(k, logits.length) - 1] as number
    const expected = logits.map((logit) => (logit < floor ? -Infinity : logit))
    assert.deepEqual(
      filtered(logits, (all) => all.keepTopK(k)),
      expected,
      `SEED=${seed}`,
    )
  }
})

test('top-p keeps the most probable token at least, and the lower of two equals', () => {
  assert.deepEqual(
    filtered(row(0, 5, 5, 1), (all) => all.keepTopP(1e-9)),
    row(-Infinity, 5, -Infinity, -Infinity),
  )
})

test('top-p keeps what a full sort would keep, of a whole row and behind top-k, narrow and wide', () => {
  const random = new Random(seed + 1)
  for (let round = 0; round < 600; round++) {
    const width = [0.01, 1, 8][round % 3] as number
    const logits = randomRow(random, 1 + random.below(round % 5 === 0 ? 700 : 60)).map((logit) => logit * width)
    const p = round % 10 === 0 ? 1 : 0.02 + 0.97 * random.next()
    const k = round % 2 === 0 ? logits.length : 1 + random.below(logits.length)
    const within = filtered(logits, (all) => all.keepTopK(k))
    const kept = nucleus(within, p)
    const expected = within.map((logit, token) => (kept.has(token) ? logit : -Infinity))
    const actual = filtered(logits, (all) => {
      all.keepTopK(k)
      all.keepTopP(p)
    })
    assert.deepEqual(actual, expected, `SEED=${seed}, round ${round}`)
  }
})

test('typical keeps what a full sort by distance from the entropy would keep', () => {
  const random = new Random(seed + 2)
  for (let round = 0; round < 300; round++) {
    const logits = randomRow(random, 2 + random.below(round % 5 === 0 ? 700 : 60))
    const mass = 0.02 + 0.97 * random.next()
    const kept = typical(logits, mass)
    const expected = logits.map((logit, token) => (kept.has(token) ? logit : -Infinity))
    assert.deepEqual(
      filtered(logits, (all) => all.keepTypical(mass)),
      expected,
      `SEED=${seed}, round ${round}`,
    )
  }
})

test('every filter and all together leave at least one token, however cold or hot', () => {
  const random = new Random(seed + 3)
  for (let round = 0; round < 300; round++) {
    const logits = randomRow(random, 1 + random.below(60))
    const candidates = new Candidates(passesOf(logits))
    candidates.start([1e-3, 0.5, 1, 100][round % 4] as number)
    candidates.keepTopK(1 + random.below(9))
    candidates.keepTopP(1e-6 + random.next() * 0.99)
    candidates.keepMinP(random.next())
    candidates.keepTypical(1e-6 + random.next() * 0.99)
    assert.ok(candidates.count >= 1, `SEED=${seed}, round ${round}`)
    assert.ok((logits[candidates.draw(random.next())] as number) > -Infinity)
  }
})

test('a repetition penalty lowers positive and negative logits alike, once for each token', () => {
  const logits = row(2, -2, 5)
  applyTo(logits, { repetitionPenalty: 2 }, { prompt: [0, 1], output: [1] })
  assert.deepEqual(logits, row(1, -4, 5))
})

test('presence counts once, frequency as often as the token was made, the prompt not counted', () => {
  const logits = row(0, 0, 0)
  applyTo(logits, { presencePenalty: 1, frequencyPenalty: 0.25 }, { prompt: [0, 1], output: [1, 2, 1] })
  assert.deepEqual(logits, row(0, -1.5, -1.25))
})

test('the token that would repeat an n-gram is forbidden, the prompt counted', () => {
  assert.deepEqual(completedNgrams(3, [1, 2, 3, 0, 1, 2]), [3])
  assert.deepEqual(completedNgrams(9, [1, 1, 1]), [])
  assert.deepEqual(completedNgrams(0, [1, 1, 1]), [])
})

test('only the last token of a banned sequence is forbidden, and only behind the others', () => {
  assert.deepEqual(completedSequences([[2], [1, 3], [0, 0, 0]], [0, 1]), [2, 3])
})

test('a banned text is banned at a beginning and behind a space; a request without rules has none', () => {
  const rules = rulesOf({ ...greedy, bannedTexts: ['ab'] }, 0, byteTokenizer)
  assert.deepEqual(rules?.banned, [
    [97, 98],
    [32, 97, 98],
  ])
  assert.equal(rulesOf(greedy, 0, byteTokenizer), null)
})

test('temperature scales the differences, and the smallest one allowed overflows nothing', () => {
  assert.deepEqual(
    filtered(row(1, 2, 4), () => {}, 0.5),
    row(2, 4, 8),
  )
  const cold = new Candidates(passesOf(row(100, 99, -100)))
  cold.start(Number.MIN_VALUE)
  assert.equal(cold.draw(0.999), 0)
})

test('the log-probability is that of a softmax, large logits or small', () => {
  const e = Math.exp(1)
  assert.ok(Math.abs(logProbability(row(0, 1, 0), 1) - Math.log(e / (e + 2))) < 1e-6)
  assert.ok(Math.abs(logProbability(row(1000, 1000), 0) - Math.log(0.5)) < 1e-6)
  assert.ok(Math.abs(logProbability(row(-1000, -1001), 1) - Math.log(1 / (e + 1))) < 1e-6)
  const all = new Sampler(4).beamScores(null, { prompt: [], output: [] }, row(1, 2, 3, -Infinity), 0)
  assert.ok(Math.abs(all.reduce((sum, each) => sum + Math.exp(each), 0) - 1) < 1e-6)
})

test('alternatives are the most probable tokens, the lower of two equals first, and say how probable they are', () => {
  const random = new Random(seed + 4)
  for (let round = 0; round < 200; round++) {
    const logits = randomRow(random, 20 + random.below(200))
    const count = random.below(21)
    const passes = passesOf(logits)
    passes.largest()
    const order = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    assert.deepEqual(passes.largestTokens(count), order.slice(0, count), `SEED=${seed}`)
  }
  const logits = row(1, 3, 2)
  const { logprob, top } = new Sampler(3).score(logits, 2, 2)
  assert.equal(logprob, logProbability(logits, 2))
  assert.deepEqual(
    top,
    [1, 2].map((token) => ({ token, logprob: logProbability(logits, token) })),
  )
})

test('tokens are drawn as often as their probability says', () => {
  const random = new Random(47)
  const counts = [0, 0, 0, 0]
  const candidates = new Candidates(passesOf(row(Math.log(1), Math.log(2), -Infinity, Math.log(5))))
  candidates.start(1)
  for (let i = 0; i < 8000; i++) counts[candidates.draw(random.next())]! += 1
  assert.equal(counts[2], 0)
  assert.ok(Math.abs((counts[0] as number) - 1000) < 130)
  assert.ok(Math.abs((counts[1] as number) - 2000) < 180)
  const equal = new Candidates(passesOf(row(0, 0, -Infinity)))
  equal.start(1)
  assert.equal(equal.draw(1 - 2 ** -53), 1)
  // A first block that has no weight at all is passed over by the smallest number too.
  const far = Float32Array.from({ length: 200 }, (_, token) => (token === 150 ? 0 : -50))
  const single = new Candidates(passesOf(far))
  single.start(1)
  assert.deepEqual(
    [0, 0.5, 1 - 2 ** -53].map((uniform) => single.draw(uniform)),
    [150, 150, 150],
  )
})

test('over a long row a token is drawn where the cumulative probability passes the number', () => {
  const random = new Random(seed + 5)
  const logits = Float32Array.from({ length: 1500 }, () => 4 * random.normal())
  const candidates = new Candidates(passesOf(logits))
  candidates.start(0.7)
  const weights = [...logits].map((logit) => Math.exp(logit / 0.7))
  const sum = weights.reduce((total, weight) => total + weight, 0)
  for (let round = 0; round < 300; round++) {
    const uniform = random.next()
    let mass = 0
    const expected = weights.findIndex((weight) => (mass += weight) > uniform * sum)
    assert.equal(candidates.draw(uniform), expected, `SEED=${seed}, ${uniform}`)
  }
})

test('the sampler leaves the logits as they were, and greedy takes the penalty too', () => {
  const logits = row(3, 2.9, 1)
  const sampler = new Sampler(3)
  const sequence = { prompt: [0], output: [], decoding: greedy, rules: null, random: new Random(1) }
  assert.equal(sampler.sample(sequence, logits), 0)
  const tokenizer = { encode: () => [], endOfText: 2, vocabulary: 3 }
  const rules = rulesOf({ ...greedy, repetitionPenalty: 1.5 }, 0, tokenizer)
  assert.equal(sampler.sample({ ...sequence, rules }, logits), 1)
  const decoding = { ...greedy, strategy: 'sample', topK: 1, temperature: 7 } as const
  assert.equal(sampler.sample({ ...sequence, rules, decoding }, logits), 1)
  assert.deepEqual(logits, row(3, 2.9, 1))
})

test('of several texts the most probable by the mean are answered, of each group by itself, the best first', () => {
  const texts = [-3, -1, -2, -9, -9, -8].map((meanLogprob, made) => ({ meanLogprob, made }))
  assert.deepEqual(
    bestTexts(texts, { n: 2, bestOf: 3 }).map(({ made }) => made),
    [1, 2, 5, 3],
  )
})

function passesOf(logits: Float32Array): RowPasses {
  const passes = new RowPasses(logits.length)
  passes.logits.set(logits)
  return passes
}

function argmax(logits: Float32Array): number {
  return passesOf(logits).argmax()
}

function logProbability(logits: Float32Array, token: number): number {
  return new Sampler(logits.length).score(logits, token, 0).logprob
}

/** The row after filters, -Infinity where a token was dropped. */
function filtered(logits: Float32Array, filter: (candidates: Candidates) => void, temperature = 1): Float32Array {
  const candidates = new Candidates(passesOf(logits))
  candidates.start(temperature)
  filter(candidates)
  const result = new Float32Array(logits.length)
  candidates.toRow(result)
  return result
}

/** The plain definition: sort by distance, take until the mass is reached, and all that are as far as the last. */
function typical(logits: Float32Array, mass: number): Set<number> {
  const largest = Math.max(...logits)
  const weights = [...logits].map((logit) => Math.exp(logit - largest))
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const middle = [...logits].reduce((total, logit, i) => total + (weights[i]! / sum) * (largest - logit), 0)
  const far = (token: number): number => Math.abs(largest - (logits[token] as number) - middle)
  const order = [...logits.keys()].sort((a, b) => far(a) - far(b))
  let reached = 0
  const last = order.find((token) => (reached += weights[token]!) >= mass * sum) ?? 0
  return new Set(order.filter((token) => far(token) <= far(last) + 1e-9))
}

function applyTo(logits: Float32Array, changes: Partial<Decoding>, history: History): void {
  const rules = rulesOf({ ...greedy, ...changes }, 0, byteTokenizer)
  assert.ok(rules !== null)
  applyRules(rules, history, logits)
}

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

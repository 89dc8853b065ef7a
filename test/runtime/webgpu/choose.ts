// Tokens chosen on the GPU, or from the few largest logits that come back, against the engine's own sampler on the host.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../../src/engine/candidates.ts'
import { RowPasses } from '../../../src/engine/row-passes.ts'
import { Random } from '../../../src/random/random.ts'
import type { BestTokens, BestWanted, ChosenToken } from '../../../src/runtime/runtime.ts'
import type { RowWanted, TokenChoice } from '../../../src/runtime/runtime.ts'
import type { WebgpuRuntime } from '../../../src/runtime/webgpu/webgpu.ts'
import { afterChanges, forbidding, randomChanges } from '../random-changes.ts'
import { testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu
const seed = Number(process.env['SEED'] ?? 7)
let opened: Promise<WebgpuRuntime> | null = null
const webgpu = (): Promise<WebgpuRuntime> => (opened ??= testWebgpu.open())
const greedy: TokenChoice = { temperature: 0, topK: 0, topP: 1, uniform: 0 }
/** One workgroup sorts the first two, the last is sorted in parts. */
const vocabularies = [31, 1024, 5003]

function onHost(passes: RowPasses, choice: TokenChoice): number {
  const { temperature, topK, topP, minP = 0, typicalP = 1, uniform, forced } = choice
  if (forced !== undefined) return forced
  if (temperature === 0) return passes.argmax()
  const candidates = new Candidates(passes)
  candidates.start(temperature)
  if (topK > 0) candidates.keepTopK(topK)
  candidates.keepTopP(topP)
  candidates.keepMinP(minP)
  candidates.keepTypical(typicalP)
  return candidates.draw(uniform)
}

/** Answers how many of the rows did not come back as logits. */
async function assertAsOnHost(rows: readonly Float32Array[], wanted: readonly RowWanted[]): Promise<number> {
  const vocabulary = rows[0]!.length
  const logits = new Float32Array(rows.length * vocabulary)
  rows.forEach((row, i) => logits.set(row, i * vocabulary))
  const passes = new RowPasses(vocabulary)
  let told = 0
  const outcomes = await (await webgpu()).choose(logits, wanted)
  assert.equal(outcomes.length, rows.length)
  outcomes.forEach((outcome, i) => {
    const [row, each] = [rows[i]!, wanted[i]!]
    if (outcome instanceof Float32Array) return assert.deepEqual(outcome, row)
    told += 1
    passes.logits.set(row)
    const normalizer = passes.logSumExp()
    const { changes, ...rest } = each
    const what = `${JSON.stringify(rest)} with ${changes?.tokens.length ?? 0} changes of ${vocabulary} tokens with seed ${seed}`
    if ('best' in each) return assertBest(row, normalizer, each, outcome as BestTokens, what)
    const chosen = outcome as ChosenToken
    const isClose = (logprob: number, token: number): boolean =>
      Math.abs(logprob - (row[token]! - normalizer)) <= 1e-5 * Math.max(1, Math.abs(row[token]! - normalizer))
    assert.ok(isClose(chosen.logprob, chosen.token), what)
    const { alternatives = 0 } = each
    assert.deepEqual(
      chosen.top?.map(({ token }) => token),
      alternatives === 0 ? undefined : passes.largestTokens(alternatives),
      what,
    )
    assert.ok(
      (chosen.top ?? []).every(({ token, logprob }) => isClose(logprob, token)),
      what,
    )
    passes.logits.set(afterChanges(row, changes))
    assert.equal(chosen.token, onHost(passes, each), what)
  })
  return told
}

/** A search takes the tokens with the largest scores, of equals the lower ones first: they are the same, whatever else is told of the row. */
function assertBest(
  row: Float32Array,
  normalizer: number,
  { best, changes }: BestWanted,
  { tokens, scores }: BestTokens,
  what: string,
): void {
  const largest = (all: { token: number; score: number }[]) =>
    all.toSorted((a, b) => b.score - a.score || a.token - b.token).slice(0, best)
  const changed = afterChanges(
    row.map((logit) => logit - normalizer),
    changes,
  )
  const expected = largest(Array.from(changed, (score, token) => ({ token, score })))
  const actual = largest(Array.from(tokens, (token, i) => ({ token, score: scores[i] as number })))
  assert.equal(actual.length, Math.min(best, row.length), what)
  actual.forEach(({ token, score }, i) => {
    const wanted = expected[i]!
    const off = score === wanted.score ? 0 : Math.abs(score - wanted.score)
    assert.ok(token === wanted.token && off <= 2e-5 * Math.max(1, Math.abs(wanted.score)), `${i}: ${what}`)
  })
}

test('greedily the token of the largest logit is chosen, of equals the lowest, exactly as on the host', {
  skip,
}, async () => {
  const random = new Random(seed)
  for (const vocabulary of vocabularies) {
    // Of few values, so that many rows have several tokens that are largest.
    const draws = [() => random.normal(), () => Math.floor(random.next() * 3), () => -random.below(2) * 1e30]
    const rows = draws.flatMap((draw) => [1, 2].map(() => Float32Array.from({ length: vocabulary }, draw)))
    const tokens = await assertAsOnHost(
      rows,
      rows.map(() => greedy),
    )
    assert.equal(tokens, rows.length)
  }
})

test('tokens that are drawn, with every filter, are those that the host draws with the same number; what the largest logits do not tell comes back whole', {
  skip,
}, async () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  for (const vocabulary of vocabularies) {
    const choices = Array.from({ length: 24 }, (_, i) => ({
      temperature: pick([0.01, 0.5, 1, 1, 3, 100]),
      topK: i % 2 === 0 ? pick([1, 2, 40]) : pick([0, 0, 1000]),
      topP: pick([1, 1, 0.999, 0.9, 0.5, 1e-6]),
      uniform: random.next(),
    }))
    // Of few values in some rows: then more than the k-th may equal it.
    const rows = choices.map((_, i) =>
      Float32Array.from({ length: vocabulary }, () => (i % 6 === 0 ? random.below(4) : 4 * random.normal())),
    )
    const tokens = await assertAsOnHost(rows, choices)
    const isTold = (choice: TokenChoice, i: number): boolean => i % 6 !== 0 && choice.topK > 0 && choice.topK <= 40
    assert.ok(
      tokens >= choices.filter(isTold).length,
      `${tokens} of ${rows.length} rows of ${vocabulary}, seed ${seed}`,
    )
    if (vocabulary <= 64) assert.equal(tokens, rows.length)
  }
})

test('rules that change logits are in force before anything is chosen, exactly as on the host, and only a row whose largest are all changed comes back', {
  skip,
}, async () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  for (const vocabulary of [31, 5003]) {
    const rows = Array.from({ length: 18 }, () => Float32Array.from({ length: vocabulary }, () => 4 * random.normal()))
    const choices = rows.map((row, i) => {
      const order = Array.from(row, (_, token) => token).toSorted((a, b) => (row[b] as number) - (row[a] as number))
      // The likeliest are what rules change most.
      const tokens =
        i === 0
          ? order.slice(0, Math.min(80, vocabulary - 1))
          : order.filter((_, rank) => random.next() < 20 / (20 + 10 * rank))
      const filters =
        i % 2 === 0 ? { temperature: 0, topK: 0, topP: 1 } : { temperature: 0.8, topK: pick([0, 5]), topP: 0.7 }
      return {
        ...filters,
        uniform: random.next(),
        ...(i % 6 !== 5 && { changes: i === 0 ? forbidding(tokens) : randomChanges(random, tokens) }),
      }
    })
    const tokens = await assertAsOnHost(rows, choices)
    // All greedy ones but the first, and those with top-k.
    const told = choices.filter(({ temperature, topK }, i) => i > 0 && (temperature === 0 || topK > 0)).length
    assert.ok(tokens >= told, `${tokens} of ${told} rows of ${vocabulary}, seed ${seed}`)
    if (vocabulary > 80) assert.ok(tokens < rows.length)
  }
})

test('min-p, typical sampling, alternatives and forced tokens are those of the host, with rules and without', {
  skip,
}, async () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  for (const vocabulary of [31, 5003]) {
    // Steep enough that the sets often end within the largest.
    const rows = Array.from({ length: 24 }, () => Float32Array.from({ length: vocabulary }, () => 5 * random.normal()))
    const choices = rows.map((_, i): TokenChoice => {
      const tokens = Array.from({ length: vocabulary }, (_, token) => token).filter(() => random.next() < 0.1)
      const filters = [
        { minP: pick([0.02, 0.2, 0.9]) },
        { typicalP: pick([0.2, 0.5]) },
        { minP: 0.05, typicalP: 0.5 },
        { topK: 30, typicalP: 0.9 },
        { temperature: pick([0, 0.8]), topP: 0.6, alternatives: pick([1, 20]) },
        { temperature: pick([0, 0.8]), forced: random.below(vocabulary), alternatives: 3 },
      ][i % 6]!
      const changes = i % 12 < 6 && filters.forced === undefined && { changes: randomChanges(random, tokens) }
      return { temperature: 0.8, topK: 0, topP: 1, uniform: random.next(), ...filters, ...changes }
    })
    const told = await assertAsOnHost(rows, choices)
    const what = `${told} of ${rows.length} rows of ${vocabulary}, seed ${seed}`
    assert.ok(told >= (vocabulary === 31 ? rows.length : (3 * rows.length) / 4), what)
  }
})

test('of a search the tokens with the best scores come back, rules applied, and a row comes back where rules changed too many', {
  skip,
}, async () => {
  const random = new Random(seed)
  for (const vocabulary of [31, 1024, 5003]) {
    const rows = Array.from({ length: 12 }, (_, i) =>
      // Of few values in some rows: then the last that counts has equals.
      Float32Array.from({ length: vocabulary }, () => (i % 4 === 3 ? random.below(60) / 4 : 4 * random.normal())),
    )
    const wanted = rows.map((row, i): BestWanted => {
      const order = Array.from(row, (_, token) => token).toSorted((a, b) => row[b]! - row[a]!)
      const tokens = i === 0 ? order.slice(0, 300) : order.filter((_, rank) => random.next() < 20 / (20 + 10 * rank))
      const changes = i === 0 ? forbidding(tokens) : randomChanges(random, tokens)
      return { best: i < 6 ? 10 : 2, ...(i % 3 !== 2 && { changes }) }
    })
    const told = await assertAsOnHost(rows, wanted)
    // A beam of 64 is wider than what is sorted for the others.
    const wide = await assertAsOnHost(rows.slice(0, 2), [null, { best: 128 }])
    const what = `${told} and ${wide} of rows of ${vocabulary}, seed ${seed}`
    assert.ok(vocabulary === 31 ? told === rows.length : told >= 8 && told < rows.length, what)
    assert.equal(wide, 1, what)
  }
})

test('a row for which nothing is chosen comes back as its logits, also between others', { skip }, async () => {
  const random = new Random(seed)
  const rows = [0, 1, 2, 3].map(() => Float32Array.from({ length: 100 }, () => random.normal()))
  assert.equal(await assertAsOnHost(rows, [greedy, null, { ...greedy, temperature: 1, topK: 3 }, null]), 2)
})

test('a row whose logits are all alike is no row that was computed: whoever asks hears of the memory of the GPU', {
  skip,
}, async () => {
  const row = new Float32Array(1000)
  for (const wanted of [greedy, { ...greedy, temperature: 1 }, { best: 4 }])
    await assert.rejects(
      assertAsOnHost([row], [wanted]),
      /^Error: all logits of a row are alike: the GPU .* GiB, has no memory left/,
    )
})

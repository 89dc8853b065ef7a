// Tokens chosen on the GPU, or from the few largest logits that come back, against the engine's own sampler on the host.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../../src/engine/candidates.ts'
import { RowPasses } from '../../../src/engine/row-passes.ts'
import { Random } from '../../../src/random/random.ts'
import type { TokenChoice } from '../../../src/runtime/runtime.ts'
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

function onHost(passes: RowPasses, { temperature, topK, topP, uniform }: TokenChoice): number {
  if (temperature === 0) return passes.argmax()
  const candidates = new Candidates(passes)
  candidates.start(temperature)
  if (topK > 0) candidates.keepTopK(topK)
  candidates.keepTopP(topP)
  return candidates.draw(uniform)
}

/** Answers how many of the rows came back as tokens. */
async function assertAsOnHost(
  rows: readonly Float32Array[],
  choices: readonly (TokenChoice | null)[],
): Promise<number> {
  const vocabulary = rows[0]!.length
  const logits = new Float32Array(rows.length * vocabulary)
  rows.forEach((row, i) => logits.set(row, i * vocabulary))
  const passes = new RowPasses(vocabulary)
  let tokens = 0
  const outcomes = await (await webgpu()).choose(logits, choices)
  assert.equal(outcomes.length, rows.length)
  outcomes.forEach((outcome, i) => {
    const [row, choice] = [rows[i]!, choices[i]!]
    if (outcome instanceof Float32Array) return assert.deepEqual(outcome, row)
    tokens += 1
    passes.logits.set(afterChanges(row, choice.changes))
    const { changes, ...rest } = choice
    const what = `${JSON.stringify(rest)} with ${changes?.tokens.length ?? 0} changes of ${vocabulary} tokens with seed ${seed}`
    assert.equal(outcome.token, onHost(passes, choice), what)
    passes.logits.set(row)
    const expected = (row[outcome.token] as number) - passes.logSumExp()
    assert.ok(Math.abs(outcome.logprob - expected) <= 1e-5 * Math.max(1, Math.abs(expected)), what)
  })
  return tokens
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

test('a row for which nothing is chosen comes back as its logits, also between others', { skip }, async () => {
  const random = new Random(seed)
  const rows = [0, 1, 2, 3].map(() => Float32Array.from({ length: 100 }, () => random.normal()))
  assert.equal(await assertAsOnHost(rows, [greedy, null, { ...greedy, temperature: 1, topK: 3 }, null]), 2)
})

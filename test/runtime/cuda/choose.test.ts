// Tokens chosen on the device against the engine's own sampler on the host.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../../src/engine/candidates.ts'
import { RowPasses } from '../../../src/engine/row-passes.ts'
import { Random } from '../../../src/random/random.ts'
import type { CudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import type { TokenChoice } from '../../../src/runtime/runtime.ts'
import { afterChanges, randomChanges } from '../random-changes.ts'
import { isOnDevice, testCuda } from './runtimes.ts'

const { skip } = testCuda
const seed = Number(process.env['SEED'] ?? 7)
let opened: CudaRuntime | null = null
const cuda = (): CudaRuntime => (opened ??= testCuda.open({ checked: true }))
const greedy: TokenChoice = { temperature: 0, topK: 0, topP: 1, uniform: 0 }

function onHost(passes: RowPasses, { temperature, topK, topP, uniform }: TokenChoice): number {
  if (temperature === 0) return passes.argmax()
  const candidates = new Candidates(passes)
  candidates.start(temperature)
  if (topK > 0) candidates.keepTopK(topK)
  candidates.keepTopP(topP)
  return candidates.draw(uniform)
}

const rowsOf = (count: number, draw: () => number): Float32Array[] =>
  [1, 31, 97, 1024, 5003].flatMap((vocabulary) =>
    Array.from({ length: count }, () => Float32Array.from({ length: vocabulary }, draw)),
  )

function assertAsOnHost(rows: readonly Float32Array[], choices: readonly TokenChoice[]): void {
  const lengths = new Set(rows.map(({ length }) => length))
  for (const length of lengths) {
    const own = rows.map((_, i) => i).filter((i) => rows[i]!.length === length)
    const logits = new Float32Array(own.length * length)
    const passes = new RowPasses(length)
    own.forEach((i, at) => logits.set(rows[i]!, at * length))
    const asked = own.map((i) => choices[i]!)
    cuda()
      .choose(logits, asked)
      .forEach(({ token, logprob }, at) => {
        const [row, choice] = [rows[own[at]!]!, asked[at]!]
        const { changes, ...rest } = choice
        passes.logits.set(afterChanges(row, choice.changes))
        const what = `${JSON.stringify(rest)} with ${changes?.tokens.length ?? 0} changes of ${length} tokens with seed ${seed}`
        assert.equal(token, onHost(passes, choice), what)
        passes.logits.set(row)
        const expected = (row[token] as number) - passes.logSumExp()
        assert.ok(Math.abs(logprob - expected) <= 1e-5 * Math.max(1, Math.abs(expected)), `${logprob} for ${expected}`)
      })
  }
}

test('greedily the token of the largest logit is chosen, of equals the lowest, exactly as on the host', {
  skip,
}, () => {
  const random = new Random(seed)
  // Of few values, so that many rows have several tokens that are largest.
  for (const draw of [() => random.normal(), () => Math.floor(random.next() * 3), () => -random.below(2) * 1e30]) {
    const rows = rowsOf(3, draw)
    for (const row of rows) if (random.next() < 0.3) row[random.below(row.length)] = -Infinity
    for (const row of rows) if (row.every((logit) => logit === -Infinity)) row[0] = 1
    assertAsOnHost(
      rows,
      rows.map(() => greedy),
    )
  }
})

test('tokens that are drawn, with every filter, are those that the host draws with the same number', { skip }, () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  for (let round = 0; round < 8; round++) {
    const rows = rowsOf(6, () => 4 * random.normal())
    const choices = rows.map(() => ({
      temperature: pick([0.01, 0.5, 1, 1, 3, 100]),
      topK: pick([0, 0, 1, 2, 40, 1000]),
      topP: pick([1, 1, 0.999, 0.9, 0.5, 1e-6]),
      uniform: random.next(),
    }))
    assertAsOnHost(rows, choices)
  }
})

test('rules that change logits, many or few, are in force before anything is chosen, exactly as on the host', {
  skip,
}, () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  const rows = [97, 1024].flatMap((vocabulary) =>
    Array.from({ length: 8 }, () => Float32Array.from({ length: vocabulary }, () => 3 * random.normal())),
  )
  const choices = rows.map((row, i) => {
    // The likeliest among them, and in some rows more than the kernel has threads for at once.
    const best = row.indexOf(Math.max(...row))
    const tokens = Array.from({ length: row.length }, (_, token) => token).filter(
      (token) => token === best || random.next() < pick([0.02, 0.5]),
    )
    const filters = { temperature: pick([0, 0.7, 1]), topK: pick([0, 5]), topP: pick([1, 0.8]) }
    return { ...filters, uniform: random.next(), ...(i % 4 > 0 && { changes: randomChanges(random, tokens) }) }
  })
  assertAsOnHost(rows, choices)
})

test('of equal logits at the border top-k keeps all, and top-p the lower tokens', { skip }, () => {
  const row = Float32Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? 2 : i % 3 === 1 ? 1 : -Infinity))
  const uniforms = Array.from({ length: 12 }, (_, i) => (i + 0.5) / 12)
  for (const [topK, topP] of [
    [20, 1],
    [5, 1],
    [21, 1],
    [0, 0.5],
    [0, 0.8],
    [0, 0.03],
    [25, 0.9],
  ] as const) {
    const choices = uniforms.map((uniform) => ({ temperature: 1, topK, topP, uniform }))
    assertAsOnHost(
      uniforms.map(() => row),
      choices,
    )
  }
})

test('numbers at both ends of the unit interval draw the first and the last token that has any weight', {
  skip,
}, () => {
  const row = Float32Array.of(-Infinity, 0, 1, 0, -Infinity)
  const choices = [0, 1 - 2 ** -53].map((uniform) => ({ temperature: 1, topK: 0, topP: 1, uniform }))
  const chosen = cuda().choose(Float32Array.of(...row, ...row), choices)
  assert.deepEqual(
    chosen.map(({ token }) => token),
    [1, 3],
  )
})

test('draws come as often as the probabilities say, and the same choice is the same bit for bit', { skip }, () => {
  const row = Float32Array.of(0, Math.log(2), Math.log(4), Math.log(1))
  const random = new Random(seed)
  const choices = Array.from({ length: 400 }, () => ({ temperature: 1, topK: 0, topP: 1, uniform: random.next() }))
  const logits = Float32Array.from({ length: 4 * choices.length }, (_, i) => row[i % 4] as number)
  const chosen = cuda().choose(logits, choices)
  const counts = [0, 0, 0, 0]
  for (const { token } of chosen) counts[token]! += 1 / choices.length
  ;[1, 2, 4, 1].forEach((weight, token) => {
    // Five standard deviations of a share of 400.
    assert.ok(Math.abs(counts[token]! - weight / 8) < 5 * Math.sqrt(0.25 / 400), `${counts} with seed ${seed}`)
  })
  if (!isOnDevice) process.env['STAND_IN_ORDER'] = 'backwards'
  const again = cuda().choose(logits, choices)
  delete process.env['STAND_IN_ORDER']
  assert.deepEqual(again, chosen)
})

test('where no logit is finite there is no token', { skip }, () => {
  for (const value of [NaN, -Infinity, Infinity]) {
    const choices = [greedy, { ...greedy, temperature: 1, topK: 3, topP: 0.5 }]
    const chosen = cuda().choose(new Float32Array(80).fill(value), choices)
    assert.ok(
      chosen.every(({ token }) => token < 0),
      JSON.stringify(chosen),
    )
  }
})

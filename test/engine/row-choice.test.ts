// A session that chooses tokens itself: texts and scores are those of the engine's own choice, and logits come back only where they are needed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../src/engine/candidates.ts'
import type { EngineLimits } from '../../src/engine/limits.ts'
import { type Decoding, greedy, type GenerateRequest, type Output } from '../../src/engine/request.ts'
import { RowPasses } from '../../src/engine/row-passes.ts'
import { anyToken } from '../../src/engine/row-choice.ts'
import { applyRules, changesOf } from '../../src/engine/rule-changes.ts'
import type { Framing } from '../../src/model/framing.ts'
import { Random } from '../../src/random/random.ts'
import { changedLogit } from '../../src/runtime/logit-changes.ts'
import type { BestTokens, BestWanted, ChosenToken } from '../../src/runtime/runtime.ts'
import type { RowOutcome, RowWanted, SessionPart, TokenChoice } from '../../src/runtime/runtime.ts'
import { afterChanges } from '../runtime/random-changes.ts'
import { FakeSession } from './fake-session.ts'
import { collect, request, sampling, serviceError } from './requests.ts'
import { makeEngine } from './setup.ts'

const seed = Number(process.env['SEED'] ?? 17)
const vocabulary = 12
const never = new AbortController().signal

class ChoosingSession extends FakeSession {
  override readonly tellsEvery = false
  /** Rows that came back as tokens, as the best of a search, and as logits. */
  readonly came = { tokens: 0, best: 0, logits: 0 }
  /** Of the tokens of rows, those for which the cheapest was asked for. */
  cheapest = 0
  readonly #canAll: boolean
  readonly #passes = new RowPasses(this.vocabulary)
  readonly #candidates = new Candidates(this.#passes)

  /** Where not all, it has no filters but top-k and top-p, no alternatives, and nothing for a search, and answers logits. */
  constructor(vocabulary: number, canAll = true) {
    super(vocabulary)
    this.#canAll = canAll
  }

  async choose(parts: readonly SessionPart[], wanted: readonly RowWanted[]): Promise<RowOutcome[]> {
    const logits = await this.step(parts)
    assert.equal(logits.length, wanted.length * this.vocabulary)
    return wanted.map((each, i) => {
      const row = logits.subarray(i * this.vocabulary, (i + 1) * this.vocabulary)
      if (each === null || (!this.#canAll && ['best', 'minP', 'typicalP', 'alternatives'].some((key) => key in each))) {
        this.came.logits += 1
        return row
      }
      if (each === anyToken) this.cheapest += 1
      this.came['best' in each ? 'best' : 'tokens'] += 1
      return 'best' in each ? this.#bestOf(row, each) : this.#chosenOf(row, each)
    })
  }

  #chosenOf(row: Float32Array, choice: TokenChoice): ChosenToken {
    if (!row.some(Number.isFinite)) return { token: -1, logprob: 0 }
    this.#passes.logits.set(afterChanges(row, choice.changes))
    const token = choice.forced ?? this.#tokenOf(choice)
    // How probable it was by the model itself.
    this.#passes.logits.set(row)
    const normalizer = this.#passes.logSumExp()
    const scored = (each: number) => ({ token: each, logprob: (row[each] as number) - normalizer })
    const { alternatives = 0 } = choice
    return {
      ...scored(token),
      ...(alternatives > 0 && { top: this.#passes.largestTokens(alternatives).map(scored) }),
    }
  }

  #tokenOf({ temperature, topK, topP, minP = 0, typicalP = 1, uniform }: TokenChoice): number {
    if (temperature === 0) return this.#passes.argmax()
    this.#candidates.start(temperature)
    if (topK > 0) this.#candidates.keepTopK(topK)
    this.#candidates.keepTopP(topP)
    this.#candidates.keepMinP(minP)
    this.#candidates.keepTypical(typicalP)
    return this.#candidates.draw(uniform)
  }

  /** No more of them than were asked for. */
  #bestOf(row: Float32Array, { best, changes }: BestWanted): BestTokens {
    this.#passes.logits.set(row)
    const normalizer = this.#passes.logSumExp()
    const scores = afterChanges(
      row.map((logit) => logit - normalizer),
      changes,
    )
    const order = Array.from(scores, (_, token) => token).toSorted((a, b) => scores[b]! - scores[a]! || a - b)
    const tokens = order.slice(0, best)
    return { tokens, scores: tokens.map((token) => scores[token]!) }
  }
}

async function outputs(
  session: FakeSession,
  changes: Partial<GenerateRequest>,
  framing: Partial<Framing> = {},
  limits: Partial<EngineLimits> = {},
): Promise<readonly Output[]> {
  for await (const event of makeEngine(limits, session, framing).engine.generate(request(changes), never))
    if (event.type === 'done') return event.outputs
  return assert.fail('no end')
}

const inputs = ['ab', 'a longer prompt than the other', 'c']
const decoded = (changes: Partial<Decoding>): Partial<GenerateRequest> => ({ decoding: { ...sampling, ...changes } })

for (const [what, changes] of Object.entries({
  'the greedy choice': {},
  'the greedy choice with log-probabilities': { logprobs: true },
  'a draw of all tokens': decoded({ topP: 1 }),
  'a draw with temperature, top-k and top-p': { ...decoded({ temperature: 0.7, topK: 40 }), logprobs: true },
  'several draws of an input': decoded({ n: 3, bestOf: 3 }),
  'the best of several': decoded({ n: 1, bestOf: 4 }),
  'a draw with no alternatives beside it': { ...decoded({}), topLogprobs: 0 },
  'a penalty': { decoding: { ...greedy, repetitionPenalty: 1.2 }, logprobs: true },
  'a shortest length': { minNewTokens: 3 },
  'a draw under all rules': {
    ...decoded({
      repetitionPenalty: 1.2,
      presencePenalty: 0.5,
      frequencyPenalty: -0.3,
      noRepeatNgramSize: 2,
      bannedTokens: [[3], [5, 6]],
      logitBias: { '7': 4, '9': -100 },
    }),
    minNewTokens: 2,
  },
} satisfies Record<string, Partial<GenerateRequest>>)) {
  test(`${what} is left to a session that can make it`, async () => {
    const session = new ChoosingSession(257)
    const asked = { inputs, seed: 5, ...changes }
    assert.deepEqual(await outputs(session, asked), await outputs(new FakeSession(257), asked))
    assert.ok(session.came.tokens > 20 && session.came.logits === 0, JSON.stringify(session.came))
  })
}

const rules = { repetitionPenalty: 1.3, noRepeatNgramSize: 2, bannedTokens: [[3]], logitBias: { '7': 4 } }
for (const [what, changes] of Object.entries({
  'min-p': decoded({ minP: 0.1 }),
  'typical sampling': decoded({ typicalP: 0.9 }),
  alternatives: { topLogprobs: 2 },
  'beam search': { decoding: { ...greedy, strategy: 'beam', beams: 2 } },
  'beam search under rules': { decoding: { ...greedy, ...rules, strategy: 'beam', beams: 3 }, minNewTokens: 3 },
} satisfies Record<string, Partial<GenerateRequest>>)) {
  test(`${what} needs no logits of a session that can it, and is the engine's with one that cannot`, async () => {
    const asked = { inputs, seed: 5, ...changes }
    const expected = await outputs(new FakeSession(257), asked)
    const session = new ChoosingSession(257)
    assert.deepEqual(await outputs(session, asked), expected)
    const { logits, best, tokens } = session.came
    assert.ok(logits === 0 && (what.startsWith('beam') ? best : tokens) > 10, JSON.stringify(session.came))
    const limited = new ChoosingSession(257, false)
    assert.deepEqual(await outputs(limited, asked), expected)
    assert.ok(limited.came.best === 0 && limited.came.logits > 0, JSON.stringify(limited.came))
  })
}

test('of a piece of a prompt that has more to come nothing but the cheapest is asked for', async () => {
  const long = { inputs: ['a'.repeat(50)], seed: 5, maxNewTokens: 2 }
  const wide = { ...long, decoding: { ...greedy, strategy: 'beam' as const, beams: 2 } }
  for (const asked of [{ ...long, ...decoded({ minP: 0.1 }) }, wide]) {
    const session = new ChoosingSession(257, false)
    const pieces = { prefillTokensMax: 16 }
    const all = await outputs(session, asked, {}, pieces)
    assert.deepEqual(all, await outputs(new FakeSession(257), asked, {}, pieces))
    assert.ok(session.cheapest >= 3, `${session.cheapest} pieces`)
    assert.equal(session.came.logits, 'decoding' in asked && asked.decoding.strategy === 'beam' ? 3 : 2)
  }
})

test('rules said as changes of single logits are those that are applied to a row, bit for bit', () => {
  const random = new Random(seed)
  const pick = <T>(values: readonly T[]): T => values[random.below(values.length)] as T
  const draw = (count: number): number[] => Array.from({ length: count }, () => random.below(vocabulary))
  for (let round = 0; round < 200; round++) {
    const rules = {
      bias: new Map(draw(pick([0, 3])).map((token) => [token, 20 * random.normal()])),
      repetitionPenalty: pick([1, 1.3, 0.7]),
      noRepeatNgramSize: pick([0, 1, 2]),
      banned: [draw(1), draw(2), draw(1)].slice(0, random.below(4)),
      minNewTokens: pick([0, 4]),
      endOfText: 0,
      presencePenalty: pick([0, 0.6, -1]),
      frequencyPenalty: pick([0, 0.3, -0.3]),
      forced: null,
    }
    const history = { prompt: draw(random.below(9)), output: draw(random.below(9)) }
    const logits = Float32Array.from({ length: vocabulary }, () => 5 * random.normal())
    const expected = logits.slice()
    applyRules(rules, history, expected)
    const changes = changesOf(rules, history)
    assert.equal(new Set(changes.tokens).size, changes.tokens.length)
    const actual = logits.slice()
    changes.tokens.forEach((token, i) => (actual[token] = changedLogit(logits[token] as number, changes, i)))
    assert.deepEqual(actual, expected, `SEED=${seed}, round ${round}`)
  }
})

test('a token that is forced needs no logits, however the others are chosen', async () => {
  const framing = { forcedFirst: 65, forcedLast: 66 }
  for (const changes of [
    { topLogprobs: 2, logprobs: true },
    decoded({ topK: 5 }),
    decoded({ strategy: 'beam', beams: 3 }),
  ]) {
    const session = new ChoosingSession(257)
    const asked = { inputs, seed: 5, maxNewTokens: 4, ...changes }
    const all = await outputs(session, asked, framing)
    assert.deepEqual(all, await outputs(new FakeSession(257), asked, framing))
    assert.ok(
      all.every(({ text }) => /^A.*B$/s.test(text)),
      JSON.stringify(all),
    )
    assert.equal(session.came.logits, 0)
  }
})

test('in one batch some rows come as tokens and others as logits, and each says what it says alone', async () => {
  const kinds: Partial<GenerateRequest>[] = [decoded({ topK: 9 }), decoded({ minP: 0.1 }), {}]
  const alone = await Promise.all(kinds.map((kind) => outputs(new FakeSession(257), { seed: 8, ...kind })))
  const session = new ChoosingSession(257, false)
  const { engine } = makeEngine({}, session)
  const together = await Promise.all(
    kinds.map(async (kind) => (await collect(engine.generate(request({ seed: 8, ...kind }), never))).outputs),
  )
  assert.deepEqual(together, alone)
  assert.ok(session.came.tokens > 0 && session.came.logits > 0)
})

test('a row without a finite logit fails its request and no other', async () => {
  const session = new ChoosingSession(257)
  // Only the longer prompt gets so far.
  session.adjust = (logits, length) => {
    if (length >= 20) logits.fill(Number.NaN)
  }
  const { engine } = makeEngine({}, session)
  const [short, long] = await Promise.allSettled(
    ['ab', 'a prompt of many more tokens'].map((input) =>
      collect(engine.generate(request({ inputs: [input] }), never)),
    ),
  )
  assert.equal(short?.status, 'fulfilled')
  assert.ok(long?.status === 'rejected')
  assert.ok(serviceError('engine_failed')(long.reason))
})

// A session that chooses tokens itself: texts and scores are those of the engine's own choice, and logits come back only where they are needed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../src/engine/candidates.ts'
import { type Decoding, greedy, type GenerateRequest, type Output } from '../../src/engine/request.ts'
import { rulesOf } from '../../src/engine/logit-rules.ts'
import { RowPasses } from '../../src/engine/row-passes.ts'
import { applyRules, changesOf } from '../../src/engine/rule-changes.ts'
import { Random } from '../../src/random/random.ts'
import { changedLogit } from '../../src/runtime/logit-changes.ts'
import type { RowOutcome, SessionPart, TokenChoice } from '../../src/runtime/runtime.ts'
import { FakeSession } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, request, sampling, serviceError } from './requests.ts'
import { makeEngine } from './setup.ts'

const seed = Number(process.env['SEED'] ?? 17)
const vocabulary = 12
const never = new AbortController().signal

class ChoosingSession extends FakeSession {
  override readonly tellsEvery = false
  /** Rows that came back as tokens, and as logits. */
  readonly came = { tokens: 0, logits: 0 }
  readonly #passes = new RowPasses(this.vocabulary)
  readonly #candidates = new Candidates(this.#passes)

  async choose(parts: readonly SessionPart[], choices: readonly (TokenChoice | null)[]): Promise<RowOutcome[]> {
    const logits = await this.step(parts)
    assert.equal(logits.length, choices.length * this.vocabulary)
    return choices.map((choice, i) => {
      const row = logits.subarray(i * this.vocabulary, (i + 1) * this.vocabulary)
      this.came[choice === null ? 'logits' : 'tokens'] += 1
      if (choice === null) return row
      this.#passes.logits.set(row)
      if (!row.some(Number.isFinite)) return { token: -1, logprob: 0 }
      const { changes } = choice
      changes?.tokens.forEach((token, k) => {
        this.#passes.logits[token] = changedLogit(row[token] as number, changes, k)
      })
      const token = this.#tokenOf(choice)
      // How probable it was by the model itself.
      this.#passes.logits.set(row)
      return { token, logprob: (row[token] as number) - this.#passes.logSumExp() }
    })
  }

  #tokenOf({ temperature, topK, topP, uniform }: TokenChoice): number {
    if (temperature === 0) return this.#passes.argmax()
    this.#candidates.start(temperature)
    if (topK > 0) this.#candidates.keepTopK(topK)
    this.#candidates.keepTopP(topP)
    return this.#candidates.draw(uniform)
  }
}

async function outputs(session: FakeSession, changes: Partial<GenerateRequest>): Promise<readonly Output[]> {
  for await (const event of makeEngine({}, session).engine.generate(request(changes), never))
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

for (const [what, changes] of Object.entries({
  'min-p': decoded({ minP: 0.1 }),
  'typical sampling': decoded({ typicalP: 0.9 }),
  alternatives: { topLogprobs: 2 },
  'beam search': { decoding: { ...greedy, strategy: 'beam', beams: 2 } },
} satisfies Record<string, Partial<GenerateRequest>>)) {
  test(`${what} is the engine's, from logits`, async () => {
    const session = new ChoosingSession(257)
    const asked = { inputs, seed: 5, ...changes }
    assert.deepEqual(await outputs(session, asked), await outputs(new FakeSession(257), asked))
    assert.ok(session.came.tokens === 0 && session.came.logits > 0, JSON.stringify(session.came))
  })
}

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
    assert.ok(changes !== null && new Set(changes.tokens).size === changes.tokens.length)
    const actual = logits.slice()
    changes.tokens.forEach((token, i) => (actual[token] = changedLogit(logits[token] as number, changes, i)))
    assert.deepEqual(actual, expected, `SEED=${seed}, round ${round}`)
  }
})

test('a token that is forced is no change of single logits', () => {
  const decoding = { ...greedy, repetitionPenalty: 1.5 }
  const rules = rulesOf(decoding, 0, byteTokenizer, { first: 4, last: 5, maxNewTokens: 3 })
  assert.ok(rules !== null)
  const at = (output: readonly number[]): boolean => changesOf(rules, { prompt: [1], output }) === null
  assert.deepEqual([at([]), at([4]), at([4, 9])], [true, false, true])
})

test('in one batch some rows come as tokens and others as logits, and each says what it says alone', async () => {
  const kinds: Partial<GenerateRequest>[] = [decoded({ topK: 9 }), decoded({ minP: 0.1 }), {}]
  const alone = await Promise.all(kinds.map((kind) => outputs(new FakeSession(257), { seed: 8, ...kind })))
  const session = new ChoosingSession(257)
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

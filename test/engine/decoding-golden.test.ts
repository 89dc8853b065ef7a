// Penalties, bans and filters against those of Hugging Face transformers, each alone and all in the order of its `generate`.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Candidates } from '../../src/engine/candidates.ts'
import { rulesOf } from '../../src/engine/logit-rules.ts'
import { greedy } from '../../src/engine/request.ts'
import { RowPasses } from '../../src/engine/row-passes.ts'
import { applyRules } from '../../src/engine/rule-changes.ts'
import { golden, toRow } from '../golden/decoding.ts'

const vocabulary = golden.rows[0]?.length ?? 0
const tokenizer = { encode: () => [], endOfText: golden.endOfText, vocabulary }
const passes = new RowPasses(vocabulary)
const candidates = new Candidates(passes)

for (const { decoding: changes, minNewTokens, expected } of golden.cases) {
  test(`logits after ${JSON.stringify({ ...changes, minNewTokens })} are those of transformers`, () => {
    const decoding = { ...greedy, ...changes }
    const rules = rulesOf(decoding, minNewTokens, tokenizer)
    for (const [i, row] of golden.rows.entries()) {
      const actual = toRow(row)
      if (rules !== null) applyRules(rules, golden.histories[i]!, actual)
      passes.logits.set(actual)
      candidates.start(decoding.temperature)
      if (decoding.topK > 0) candidates.keepTopK(decoding.topK)
      candidates.keepTopP(decoding.topP)
      candidates.keepMinP(decoding.minP)
      candidates.keepTypical(decoding.typicalP)
      candidates.toRow(actual)
      assertSame(actual, toRow(expected[i]!))
    }
  })
}

/** -Infinity in the same places, and the rest equal to 1e-6 of the largest. */
function assertSame(actual: Float32Array, expected: Float32Array): void {
  const unit = Math.max(...expected.filter((value) => value > -Infinity).map(Math.abs), 1)
  for (const [token, value] of expected.entries()) {
    const own = actual[token] as number
    if (value === -Infinity || own === -Infinity) assert.equal(own, value, `token ${token}`)
    else assert.ok(Math.abs(own - value) <= 1e-6 * unit, `token ${token}: ${own}, expected ${value}`)
  }
}

// Texts with an infix by the engine: prompt and infix together as a prefix are what the infix was trained as.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { promptLeft, withPrompts } from '../../bench/e2e/infix.ts'
import type { Example } from '../../src/prefix/example.ts'
import type { DecodeSession } from '../../src/runtime/runtime.ts'
import { measureLoss } from '../../src/train/evaluator.ts'
import { finish, open, parts } from '../train/runs.ts'

const { runtime, model, tokenizer } = parts

/** Mean of −log p of the tokens after the prompt, each from a decode step. */
async function decodedLoss(session: DecodeSession, output: string): Promise<number> {
  const targets = [...tokenizer.encode(` ${output}`), tokenizer.endOfText]
  let next = tokenizer.encode(promptLeft)
  let sum = 0
  for (const target of targets) {
    const logits = await session.extend(0, [next])
    const total = logits.subarray(0, session.vocabulary).reduce((all, logit) => all + Math.exp(logit), 0)
    sum += Math.log(total) - (logits[target] as number)
    next = [target]
  }
  return sum / targets.length
}

test('a text has the same loss in decode steps after prompt and infix as in the held-out loss of an infix', async () => {
  const run = await open({ variant: 'infix', steps: 5 })
  await finish(run)
  const infix = await run.prefix()
  await run.dispose()
  const examples: Example[] = ['a', 'xxb', 'xxxxq'].map((input) => ({ input, output: `${input}, or so` }))
  const inputs = examples.map(({ input }) => input)
  const prefixes = await withPrompts(parts, infix, inputs)
  const session = await runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax: 1 })
  for (const [i, example] of examples.entries()) {
    const { keys, values, header } = prefixes[i] as (typeof prefixes)[number]
    assert.equal(header.textPositionStart, header.prefixLength)
    session.seed(0, { keys, values, length: header.prefixLength })
    const expected = (await measureLoss(parts, infix, [example])) as number
    const decoded = await decodedLoss(session, example.output)
    assert.ok(Math.abs(decoded - expected) < 1e-4, `${example.input}: ${decoded} in steps, ${expected} at once`)
  }
  await session.dispose()
})

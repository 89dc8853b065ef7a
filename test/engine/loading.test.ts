// Prefixes that are loaded while others decode.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import { FakeSession } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, request, testPrefix } from './requests.ts'

const never = new AbortController().signal
/** Of the event loop: as many as a file that is opened, measured, read and closed takes. */
const turnsOfLoad = 6

test('a load of several turns is not stretched over as many steps', async () => {
  const session = new FakeSession(257)
  const loadPrefix = async () => {
    for (let turn = 0; turn < turnsOfLoad; turn++) await nextTurn()
    return testPrefix(1)
  }
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits })
  const long = collect(engine.generate(request({ maxNewTokens: 50, minNewTokens: 50 }), never))
  while (session.calls.length < 3) await nextTurn()
  const before = session.calls.length
  await collect(engine.generate(request({ prefixId: 'p1', maxNewTokens: 1 }), never))
  const steps = session.calls.length - before
  assert.ok(steps < turnsOfLoad, `${steps} steps`)
  const { usage } = await long
  assert.equal(usage.outputTokens, 50)
})

// Samples of a new prefix: which inputs are asked, and what becomes of those that do not fit.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { GenerateEvent, GenerateRequest } from '../../src/engine/request.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import { sampleOutputs, samplesMax, type OpenSamplingEngine } from '../../src/jobs/samples.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { FakeRun } from './fake-training.ts'

const prefix = await new FakeRun(1, null).prefix()
const inputs = (count: number): { input: string; output: string }[] =>
  Array.from({ length: count }, (_, i) => ({ input: `in ${i}`, output: `out ${i}` }))

/** Answers its input in capitals; `long` does not fit. */
function engineThat(saw: { prefix?: Prefix; requests: number; disposed: number }): OpenSamplingEngine {
  return async (loadPrefix) => ({
    async *generate(request: GenerateRequest): AsyncGenerator<GenerateEvent, void> {
      saw.requests += 1
      saw.prefix = await loadPrefix(request.prefixId ?? '')
      const text = request.inputs.join().toUpperCase()
      if (text.includes('LONG')) throw new ServiceError('input_too_long', text)
      if (text.includes('BROKEN')) throw new Error(text)
      yield { type: 'token', index: 0, text }
      const usage = { prefixTokens: 1, inputTokens: 1, outputTokens: 1 }
      yield { type: 'done', outputs: [{ text, finishReason: 'stop', tokens: 1 }], usage }
    },
    dispose: async () => void (saw.disposed += 1),
  })
}

test('a few held-out inputs are put to the engine with the new prefix', async () => {
  const saw: Parameters<typeof engineThat>[0] = { requests: 0, disposed: 0 }
  const samples = await sampleOutputs(prefix, inputs(50), engineThat(saw))
  assert.equal(samples.length, samplesMax)
  assert.deepEqual(samples[1], { input: 'in 1', reference: 'out 1', output: 'IN 1' })
  assert.equal(saw.prefix, prefix)
  assert.deepEqual([saw.requests, saw.disposed], [samplesMax, 1])
})

test('without held-out examples no engine is opened', async () => {
  assert.deepEqual(await sampleOutputs(prefix, [], () => Promise.reject(new Error('opened'))), [])
})

test('an input without room for an output is left out, and any other trouble is reported', async () => {
  const saw = { requests: 0, disposed: 0 }
  const long = { input: 'long', output: '' }
  assert.equal((await sampleOutputs(prefix, [long, ...inputs(2)], engineThat(saw))).length, 2)
  await assert.rejects(sampleOutputs(prefix, [{ input: 'broken', output: '' }], engineThat(saw)), /BROKEN/)
  assert.equal(saw.disposed, 2)
})

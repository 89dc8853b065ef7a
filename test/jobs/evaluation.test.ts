// The evaluation job as a plain function: what it asks of whom, what it leaves behind however it ends.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { evaluateJob, type EvaluationJob, type EvaluationParts } from '../../src/jobs/evaluation.ts'
import { drawExamples, fewShotPrompt } from '../../src/jobs/few-shot.ts'
import type { EvaluateJobData, EvaluationProgress } from '../../src/jobs/job.ts'
import { handedBack } from '../../src/jobs/stopping.ts'
import { Evaluations } from '../../src/prefix/evaluations.ts'
import type { PrefixRecord } from '../../src/prefix/record.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { splitExamples } from '../../src/train/split.ts'
import { fakeSampling, type FakeSampling } from './fake-engine.ts'
import { FakeRun } from './fake-training.ts'
import { evaluationData } from './fixtures.ts'

const never = new AbortController().signal
const trained = Array.from({ length: 10 }, (_, i) => ({ input: `in ${i}`, output: `out ${i}` }))
const asked = [
  { input: 'one', output: 'q: one a:' },
  { input: 'two', output: 'something else' },
  { input: 'one', output: 'another one' },
]
const template = 'q: {input} a:'

interface FakeEvaluation {
  readonly parts: EvaluationParts
  readonly sampling: FakeSampling
  readonly evaluations: Evaluations
  readonly progress: EvaluationProgress[]
  record: Partial<PrefixRecord> | null
  readonly job: (changes?: Partial<EvaluateJobData>) => EvaluationJob
}

function fakeEvaluation(positionsMax = 400): FakeEvaluation {
  const sampling = fakeSampling(positionsMax)
  const evaluations = new Evaluations(new MemoryStore())
  const progress: EvaluationProgress[] = []
  const find = async (): Promise<PrefixRecord> => {
    if (fake.record === null) throw new ServiceError('prefix_not_found', 'there is no such prefix')
    return fake.record as PrefixRecord
  }
  const parts: EvaluationParts = {
    ...sampling,
    registry: {
      find,
      update: async (_id, changes) => void (fake.record = { ...(await find()), ...changes }),
    },
    datasets: { get: async (id) => (id === 'ds_asked' ? asked : trained) },
    evaluations,
    loadPrefix: async () => {
      await find()
      const prefix = await new FakeRun(1, null).prefix()
      return { ...prefix, header: { ...prefix.header, template } }
    },
    measureLoss: async (_prefix, examples) => examples.length,
  }
  const fake: FakeEvaluation = {
    parts,
    sampling,
    evaluations,
    progress,
    record: {
      id: 'pfx_1',
      dataset: { id: 'ds_trained', sha256: 'c', examples: 10 },
      validation: 0.2,
      training: { seed: 3 },
      metrics: { bleu: 1 },
    },
    job: (changes = {}) => ({
      id: 'job_1',
      data: { ...evaluationData(''), prefixId: 'pfx_1', datasetId: 'ds_asked', ...changes },
      updateProgress: async (report) => void progress.push(report),
    }),
  }
  return fake
}

test('the prefix and both baselines are asked the same, scored, and written down with a few texts', async () => {
  const { parts, sampling, evaluations, progress, job } = fakeEvaluation()
  const result = await evaluateJob(job(), never, parts, { progressEveryMs: 0 })
  const [evaluation] = await evaluations.list('pfx_1')
  assert.ok(evaluation !== undefined)
  const { prefix, bare, fewShot, samples, examples, references, skipped, loss } = evaluation
  assert.deepEqual([examples, references, skipped, loss], [2, 3, 0, 3])
  // Prefix and bare model say the prompt in capitals, which is a reference of the first input.
  assert.deepEqual(samples[0]?.references, ['q: one a:', 'another one'])
  assert.deepEqual([samples[0]?.prefix, samples[0]?.bare], ['Q: ONE A:', 'Q: ONE A:'])
  assert.ok((prefix.metrics['bleu'] ?? 0) > 0)
  assert.deepEqual(prefix, bare)
  assert.deepEqual([fewShot?.promptExamples, fewShot?.promptExamplesMean], [3, 3])
  assert.match(samples[1]?.fewShot ?? '', /^(Q: IN \d A: OUT \d<\|ENDOFTEXT\|>){3}Q: TWO A:$/)
  assert.deepEqual(result, { prefixId: 'pfx_1', examples: 2, metrics: { ...prefix.metrics, examples: 2 } })
  assert.deepEqual(
    sampling.requests.map(({ prefixId }) => prefixId),
    ['pfx_1', 'pfx_1', null, null, null, null],
  )
  assert.deepEqual(
    progress.map(({ example, examples: total }) => [example, total]),
    [1, 2, 3, 4, 5, 6].map((example) => [example, 6]),
  )
  assert.equal(sampling.positions[0], 1 + 'q: one a:'.length + 8)
})

test('the record of the prefix has the latest figures', async () => {
  const fake = fakeEvaluation()
  const { metrics } = await evaluateJob(fake.job(), never, fake.parts)
  assert.deepEqual(fake.record?.metrics, metrics)
  assert.equal(metrics['examples'], 2)
})

test('without baselines the prefix alone is asked, and one that was imported has no examples to show', async () => {
  const alone = fakeEvaluation()
  await evaluateJob(alone.job({ baselines: false }), never, alone.parts)
  assert.equal(alone.sampling.requests.length, 2)
  const [{ bare, fewShot } = assert.fail()] = await alone.evaluations.list('pfx_1')
  assert.deepEqual([bare, fewShot], [null, null])
  const imported = fakeEvaluation()
  imported.record = { ...imported.record, dataset: null, validation: null }
  await evaluateJob(imported.job(), never, imported.parts)
  const [second] = await imported.evaluations.list('pfx_1')
  assert.ok(second?.bare !== null && second?.fewShot === null)
})

test('examples that fit before no input are no second measurement of the bare model', async () => {
  const longest = 'q: one a:'.length
  const fake = fakeEvaluation(1 + longest + 8)
  await evaluateJob(fake.job(), never, fake.parts)
  const [{ bare, fewShot, samples } = assert.fail()] = await fake.evaluations.list('pfx_1')
  assert.ok(bare !== null)
  assert.deepEqual([fewShot, samples[0]?.fewShot], [null, null])
  assert.equal(fake.sampling.requests.length, 4)
})

test('every text has its own seed, which is the same for all systems and the next time', async () => {
  const runs = [fakeEvaluation(), fakeEvaluation()]
  for (const { job, parts } of runs) await evaluateJob(job({ seed: 7 }), never, parts)
  const [seeds, again] = runs.map(({ sampling }) => sampling.requests.map(({ seed }) => seed))
  assert.deepEqual(seeds, again)
  assert.deepEqual(seeds?.slice(2, 4), seeds?.slice(0, 2))
  assert.notEqual(seeds?.[0], seeds?.[1])
})

test('inputs without room are left out for every system and counted; where none has room the job says why', async () => {
  const fake = fakeEvaluation(1 + 'q: one a:'.length + 8)
  const longer = [...asked, { input: 'a longer one', output: 'x' }]
  await evaluateJob(fake.job(), never, { ...fake.parts, datasets: { get: async () => longer } })
  const [{ examples, skipped } = assert.fail()] = await fake.evaluations.list('pfx_1')
  assert.deepEqual([examples, skipped], [2, 1])
  await assert.rejects(evaluateJob(fake.job({ maxNewTokens: 9 }), never, fake.parts), (error: ServiceError) => {
    assert.equal(error.code, 'input_too_long')
    assert.match(error.message, /none of 2 inputs has room: .*maxNewTokens 9 a prompt may have 8 of the 18 positions/)
    return true
  })
})

test('a cancelled evaluation and one whose worker stops leave nothing behind, and each says which it was', async () => {
  for (const [reason, expected] of [
    ['cancelled', { code: 'cancelled' }],
    ['shutdown', { name: handedBack }],
    ['lock lost', { message: 'lock lost' }],
  ] as const) {
    const fake = fakeEvaluation()
    const stop = new AbortController()
    fake.sampling.onRequest = (_request, count) => {
      if (count === 3) stop.abort(reason)
    }
    await assert.rejects(evaluateJob(fake.job(), stop.signal, fake.parts), expected)
    assert.deepEqual([await fake.evaluations.list('pfx_1'), fake.record?.metrics], [[], { bleu: 1 }])
    assert.equal(fake.sampling.open, 0)
  }
})

test('a prefix that is deleted meanwhile has no evaluation, and its job is cancelled', async () => {
  const fake = fakeEvaluation()
  fake.sampling.onRequest = () => {
    fake.record = null
  }
  await assert.rejects(evaluateJob(fake.job({ baselines: false }), never, fake.parts), { code: 'cancelled' })
  assert.deepEqual(await fake.evaluations.list('pfx_1'), [])
})

test('examples of the prompt are drawn by seed from those that were trained on and are not asked', async () => {
  const datasets = { get: async () => trained }
  const record = { dataset: { id: 'ds', sha256: '', examples: 10 }, validation: 0.5, training: { seed: 3 } }
  const { examples } = splitExamples(trained, 0.5, 3)
  const notAsked = new Set([examples[0]?.input ?? ''])
  const drawn = await drawExamples(record, notAsked, 1, datasets)
  assert.equal(drawn.length, 3)
  for (const example of drawn) assert.ok(examples.includes(example) && example !== examples[0], example.input)
  assert.deepEqual(await drawExamples(record, notAsked, 1, datasets), drawn)
  const orders = await Promise.all([2, 3, 4, 5].map((seed) => drawExamples(record, notAsked, seed, datasets)))
  assert.ok(orders.some((order) => order[0] !== drawn[0]))
})

test('as many examples stand in a prompt as fit', () => {
  const parts = { promptPositions: (text: string): number => text.length, endMark: '<|endoftext|>' }
  const prompt = (lengthMax: number) => fewShotPrompt('{input}:', trained.slice(0, 3), 'x', lengthMax, parts)
  const one = 'in 0: out 0<|endoftext|>'
  assert.deepEqual(prompt(one.length + 2), { text: `${one}x:`, length: one.length + 2, examples: 1 })
  assert.equal(prompt(3 * one.length + 2).examples, 3)
  assert.deepEqual(prompt(one.length + 1), { text: 'x:', length: 2, examples: 0 })
})

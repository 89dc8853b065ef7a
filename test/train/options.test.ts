// What each option changes in a training, and that a run with all of them still repeats and resumes bit for bit.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import { float32 } from '../../src/tensor/tensor.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { dropoutFeeds } from '../../src/train/dropout.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import { measureLoss } from '../../src/train/evaluator.ts'
import { GradientSteps } from '../../src/train/gradients.ts'
import { initialParameters } from '../../src/train/initialize.ts'
import { trainingDefaults, type StartingPrefix, type TrainingOptions } from '../../src/train/options.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { planTraining } from '../../src/train/plan.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { assertClose } from '../golden/gpt2.ts'
import { advance, finish, open, parts } from './runs.ts'
import { tinyData } from './tiny.ts'

const seed = Number(process.env['SEED'] ?? 11)

const everything: Partial<TrainingOptions> = {
  batchSize: 3,
  accumulation: 3,
  warmupSteps: 2,
  schedule: 'cosine',
  dropout: 0.3,
  labelSmoothing: 0.1,
  weightDecay: 0.01,
  clipNorm: 0.7,
}

for (const [what, variant] of [
  ['network', { variant: 'prefix' }],
  ['embedding', { variant: 'embedding', reparametrization: 0 }],
  ['infix', { variant: 'infix', reparametrization: 0 }],
] as const) {
  test(`a run of the ${what} with every option, stopped at random steps, ends where an undisturbed one does (seed ${seed})`, async () => {
    const options = { ...everything, ...variant }
    const undisturbed = await open(options)
    const expected = await finish(undisturbed)
    const random = new Random(seed)
    let resumed = await open(options)
    const losses: number[] = []
    for (let leg = 0; leg < 4; leg++) {
      losses.push(...(await advance(resumed, 1 + random.below(3))))
      const checkpoint = resumed.checkpoint()
      await resumed.dispose()
      resumed = await open(options, tinyData(), checkpoint)
    }
    losses.push(...(await finish(resumed)).map(({ loss }) => loss))
    assert.deepEqual(
      losses,
      expected.map(({ loss }) => loss),
    )
    assert.deepEqual(await resumed.prefix(), await undisturbed.prefix())
    assert.deepEqual(resumed.checkpoint(), undisturbed.checkpoint())
    await Promise.all([resumed.dispose(), undisturbed.dispose()])
  })

  test(`the ${what} learns`, async () => {
    const run = await open({ ...variant, learningRate: 3e-2, epochs: 12 })
    const losses = (await finish(run)).map(({ loss }) => loss)
    const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
    assert.ok(mean(losses.slice(-5)) < 0.85 * mean(losses.slice(0, 5)), losses.join(' '))
    await run.dispose()
  })
}

const rows: readonly EncodedExample[] = [
  { tokens: [5, 6, 7, 8], targets: [8, 9], promptLength: 3 },
  { tokens: [3, 4, 5], targets: [5, 1, 2], promptLength: 1 },
  { tokens: [9, 9, 9, 2, 1], targets: [0], promptLength: 5 },
]

for (const lossReduction of ['sum', 'mean'] as const) {
  test(`batches that make one step give the ${lossReduction} gradient of one batch of all their rows, dropout and all`, async () => {
    const shape = prefixShape(parts.model.config, 4, 0)
    const options = { ...trainingDefaults, prefixLength: 4, dropout: 0.4, labelSmoothing: 0.2, lossReduction, seed }
    const program = new GradientSteps(
      new SharedSteps(parts.runtime, parts.model),
      shape,
      planTraining(options, parts.model, rows),
    )
    const parameters = await initialParameters(parts, shape, 'random', seed)
    const [first, second, third] = rows as [EncodedExample, EncodedExample, EncodedExample]
    const together = await program.of([[first, second, third]], parameters, 7)
    const apart = await program.of([[first], [second, third]], parameters, 7)
    assertClose('loss', [apart.loss], [together.loss], 1e-6)
    for (const [name, gradient] of together.gradients) {
      assertClose(name, apart.gradients.get(name) as Float32Array, gradient, 1e-5)
    }
    const later = await program.of([[first, second, third]], parameters, 8)
    assert.notDeepEqual(later.gradients.get('keys'), together.gradients.get('keys'))
    program.leave()
  })
}

test('dropout leaves out its share, scales the rest, and what it left out gets no gradient', async () => {
  const shape = prefixShape(parts.model.config, 20, 0)
  const masks = dropoutFeeds(shape, 0.25, seed, 3)
  assert.deepEqual(dropoutFeeds(shape, 0.25, seed, 3), masks)
  assert.notDeepEqual(dropoutFeeds(shape, 0.25, seed, 4), masks)
  assert.notDeepEqual(masks['dropout.keys'], masks['dropout.values'])
  const numbers = Object.values(masks).flatMap(({ data }) => [...data])
  assert.deepEqual(
    [...new Set(numbers)].sort((a, b) => a - b),
    [0, Math.fround(1 / 0.75)],
  )
  const share = numbers.filter((number) => number === 0).length / numbers.length
  // 2,560 draws: five deviations are 0.043.
  assert.ok(Math.abs(share - 0.25) < 0.043, `${share} left out, seed ${seed}`)

  const options = { ...trainingDefaults, prefixLength: 20, dropout: 0.25, seed }
  const program = new GradientSteps(
    new SharedSteps(parts.runtime, parts.model),
    shape,
    planTraining(options, parts.model, rows),
  )
  const parameters = await initialParameters(parts, shape, 'random', seed)
  const { gradients } = await program.of([rows], parameters, 3)
  for (const half of ['keys', 'values'] as const) {
    masks[`dropout.${half}`]!.data.forEach((mask, i) => {
      assert.equal(gradients.get(half)![i] === 0, mask === 0, `${half}[${i}], seed ${seed}`)
    })
  }
  program.leave()
})

test('steps count optimizer steps: three batches to one make a third of them', async () => {
  const single = await open({ accumulation: 1 })
  const triple = await open({ accumulation: 3 })
  assert.equal(triple.used['steps'], Math.ceil((single.used['steps'] as number) / 3))
  const reports = await finish(triple)
  assert.equal(reports.at(-1)?.step, triple.used['steps'])
  await Promise.all([single.dispose(), triple.dispose()])
})

test('an embedding starts from the embeddings of words, whose keys and values are those that words give', async () => {
  const options = { steps: 1, learningRate: 1e-12, reparametrization: 0 }
  const [words, embedding] = [await open(options), await open({ ...options, variant: 'embedding' })]
  await Promise.all([finish(words), finish(embedding)])
  const [a, b] = [await words.prefix(), await embedding.prefix()]
  assertClose('keys', b.keys, a.keys, 1e-5)
  assertClose('values', b.values, a.values, 1e-5)
  assert.deepEqual([b.header.attachment, b.header.textPositionStart], ['decoder_self', 4])
  await Promise.all([words.dispose(), embedding.dispose()])
})

test('the held-out loss of a finished prefix is what its training measured, for an infix too', async () => {
  for (const variant of ['prefix', 'infix'] as const) {
    const run = await open({ variant, reparametrization: 0, steps: 6 })
    await finish(run)
    const prefix = await run.prefix()
    assert.equal(prefix.header.attachment, variant === 'infix' ? 'infix' : 'decoder_self')
    const loss = await measureLoss(parts, prefix, tinyData().heldOut)
    assert.equal(loss, prefix.header.training['validationLoss'])
    await run.dispose()
  }
})

test('options that do not go together are refused by name', async () => {
  const invalid = (message: RegExp) => ({ code: 'invalid_request', message })
  await assert.rejects(
    open({ variant: 'embedding', reparametrization: 8 }),
    invalid(/reparametrization is 8, it must be 0/),
  )
  await assert.rejects(
    open({ warmupSteps: 7, steps: 7 }),
    invalid(/warmupSteps is 7, it must be less than the 7 steps/),
  )
  await assert.rejects(open({ warmupSteps: 1_000 }), invalid(/warmupSteps is 1000, it must be less than the \d+ steps/))
})

const startFrom = (prefix: Prefix, label = 'pfx_1@abc'): StartingPrefix => ({
  label,
  load: () => Promise.resolve(prefix),
})

async function trained(options: Partial<TrainingOptions> = {}): Promise<Prefix> {
  const run = await open({ reparametrization: 0, steps: 8, ...options })
  await finish(run)
  const prefix = await run.prefix()
  await run.dispose()
  return prefix
}

test('a training that starts from a stored prefix begins with its keys and values, directly or through a network', async () => {
  const prefix = await trained()
  const data = { ...tinyData(), from: startFrom(prefix) }
  for (const reparametrization of [null, 16]) {
    const run = await open({ reparametrization, steps: 1, learningRate: 1e-12 }, data)
    assert.deepEqual(
      [run.used['from'], run.used['initialization'], run.used['reparametrization']],
      ['pfx_1@abc', null, reparametrization ?? 0],
    )
    await finish(run)
    const { keys, values } = await run.prefix()
    assertClose('keys', keys, prefix.keys, reparametrization === null ? 1e-6 : 1e-3)
    assertClose('values', values, prefix.values, reparametrization === null ? 1e-6 : 1e-3)
    await run.dispose()
  }
})

test('a continued training resumes without its source, and not as one of another source', async () => {
  const data = { ...tinyData(), from: startFrom(await trained()) }
  const run = await open({}, data)
  await advance(run, 2)
  const checkpoint = run.checkpoint()
  const gone = { label: data.from.label, load: () => Promise.reject(new Error('gone')) }
  const resumed = await open({}, { ...data, from: gone }, checkpoint)
  await Promise.all([finish(run), finish(resumed)])
  assert.deepEqual(await resumed.prefix(), await run.prefix())
  const other = { ...data, from: startFrom(await trained(), 'pfx_2@def') }
  await assert.rejects(open({}, other, checkpoint), { code: 'prefix_invalid' })
  await assert.rejects(open({}, tinyData(), checkpoint), { code: 'prefix_invalid' })
  await Promise.all([run.dispose(), resumed.dispose()])
})

test('a prefix of another model or length, or one whose embeddings are not known, starts nothing', async () => {
  const prefix = await trained()
  const from = (changes: Partial<Prefix['header']>) => ({
    ...tinyData(),
    from: startFrom({ ...prefix, header: { ...prefix.header, ...changes } }),
  })
  await assert.rejects(open({}, from({ modelSha256: 'f'.repeat(64) })), { code: 'prefix_model_mismatch' })
  await assert.rejects(open({}, from({ attachment: 'infix' })), { code: 'prefix_model_mismatch' })
  await assert.rejects(open({ prefixLength: 5 }, from({})), {
    code: 'invalid_request',
    message: 'prefixLength is 5, the prefix pfx_1@abc to start from has 4',
  })
  await assert.rejects(open({ variant: 'embedding', reparametrization: 0 }, from({})), {
    code: 'invalid_request',
    message: /embedding cannot start from a stored prefix/,
  })
})

test('a mask of ones changes nothing', async () => {
  // Dropout near 0 draws no zero here, and 1/(1 − rate) rounds to 1.
  const shape = prefixShape(parts.model.config, 4, 0)
  const ones = dropoutFeeds(shape, 1e-12, seed, 0)['dropout.keys']!
  assert.deepEqual(ones, float32(new Float32Array(ones.data.length).fill(1), ones.shape))
  const [plain, masked] = [await trained(), await trained({ dropout: 1e-12 })]
  assertClose('keys', masked.keys, plain.keys, 1e-6)
})

// The training loop: it learns, it repeats itself bit for bit, it goes on where it was, and it fails well.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { version } from '../../src/config/version.ts'
import { Random } from '../../src/random/random.ts'
import { readSafetensors, toFloat32, writeSafetensors } from '../../src/tensor/safetensors.ts'
import type { TrainingProgress } from '../../src/train/options.ts'
import { advance, finish, open, parts } from './runs.ts'
import { tinyData } from './tiny.ts'

const seed = Number(process.env['SEED'] ?? 5)

for (const reparametrization of [0, 8]) {
  const kind = reparametrization === 0 ? 'direct' : 'reparametrized'

  test(`a ${kind} prefix learns: loss and held-out loss fall`, async () => {
    const run = await open({ reparametrization, learningRate: 3e-2, epochs: 12 })
    const reports = await finish(run)
    const mean = (list: readonly TrainingProgress[]): number =>
      list.reduce((sum, { loss }) => sum + loss, 0) / list.length
    assert.ok(
      mean(reports.slice(-5)) < 0.8 * mean(reports.slice(0, 5)),
      `${mean(reports.slice(0, 5))} → ${mean(reports.slice(-5))}`,
    )
    const measured = reports.filter(({ validationLoss }) => validationLoss !== null)
    const { header } = await run.prefix()
    assert.equal(
      header.training['validationLoss'],
      Math.min(...measured.map(({ validationLoss }) => validationLoss as number)),
    )
    await run.dispose()
  })

  test(`the same seed gives the same ${kind} prefix bit for bit, another seed another`, async () => {
    const made = []
    for (const each of [1, 1, 2]) {
      const run = await open({ reparametrization, seed: each })
      await finish(run)
      made.push(await run.prefix())
      await run.dispose()
    }
    assert.deepEqual(made[0], made[1])
    assert.notDeepEqual(made[0]?.keys, made[2]?.keys)
  })

  test(`a ${kind} run stopped at random steps and resumed ends bit for bit where an undisturbed one does (seed ${seed})`, async () => {
    const undisturbed = await open({ reparametrization })
    const expected = await finish(undisturbed)
    const random = new Random(seed)
    let checkpoint: Uint8Array | null = null
    let resumed = await open({ reparametrization })
    const losses: number[] = []
    for (let leg = 0; leg < 10; leg++) {
      losses.push(...(await advance(resumed, 1 + Math.floor(4 * random.next()))))
      checkpoint = resumed.checkpoint()
      await resumed.dispose()
      resumed = await open({ reparametrization }, tinyData(), checkpoint)
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
}

test('a reparametrized prefix starts from the keys and values that the words give', async () => {
  const [direct, network] = [
    await open({ reparametrization: 0, steps: 1, learningRate: 1e-12 }),
    await open({ reparametrization: 16, steps: 1, learningRate: 1e-12 }),
  ]
  await finish(direct)
  await finish(network)
  const [a, b] = [await direct.prefix(), await network.prefix()]
  for (const half of ['keys', 'values'] as const) {
    a[half].forEach((value, i) =>
      assert.ok(Math.abs(value - (b[half][i] as number)) < 1e-3, `${half}[${i}]: ${value} and ${b[half][i]}`),
    )
  }
  await Promise.all([direct.dispose(), network.dispose()])
})

test('training ends early when held-out loss has stopped falling, and the best prefix is the one kept', async () => {
  // The held-out examples say the opposite of what is learned.
  const data = { ...tinyData(), heldOut: tinyData().heldOut.map(({ input }) => ({ input, output: '~~~~~~' })) }
  const run = await open({ epochs: 60, learningRate: 5e-2 }, data)
  const reports = await finish(run)
  const { header } = await run.prefix()
  assert.ok(reports.length < (run.used['steps'] as number), `${reports.length} steps of ${String(run.used['steps'])}`)
  assert.ok((header.training['step'] as number) < reports.length)
  assert.equal(reports.at(-1)?.etaMs, 0)
  await run.dispose()
})

test('without held-out examples the last step is kept', async () => {
  const run = await open({ steps: 3 }, tinyData(8, 0))
  const reports = await finish(run)
  assert.deepEqual(
    reports.map(({ step, steps, validationLoss }) => [step, steps, validationLoss]),
    [
      [1, 3, null],
      [2, 3, null],
      [3, 3, null],
    ],
  )
  assert.equal((await run.prefix()).header.training['step'], 3)
  await run.dispose()
})

test('the prefix names what it belongs to', async () => {
  const run = await open({ steps: 1 })
  await finish(run)
  const { header, keys, values } = await run.prefix()
  const { training, ...rest } = header
  assert.deepEqual(rest, {
    attachment: 'decoder_self',
    textPositionStart: 4,
    prefixLength: 4,
    layers: 2,
    heads: 4,
    headDim: 8,
    modelSha256: parts.model.sha256,
    tokenizerSha256: parts.tokenizer.sha256,
    template: ' {input} <|endoftext|>',
  })
  assert.equal(training['seed'], 1)
  assert.deepEqual([keys.length, values.length], [2 * 4 * 4 * 8, 2 * 4 * 4 * 8])
  await run.dispose()
})

test('a loss that is no number stops the training and names step and examples', async () => {
  const run = await open({ learningRate: 1e38, steps: 20 })
  await assert.rejects(finish(run), {
    code: 'training_diverged',
    message: /^step \d+ gave a loss of .* on examples \d+(, \d+)*; a lower learningRate than/,
  })
  await run.dispose()
})

test('an example that does not fit into the context is named with its length', async () => {
  const data = tinyData()
  const examples = [...data.examples, { input: 'y'.repeat(80), output: 'z' }]
  await assert.rejects(open({}, { ...data, examples }), {
    code: 'input_too_long',
    message: 'example 25 comes to 85 tokens (prompt 83, output 3), beside the prefix there is room for 60',
  })
})

test('a checkpoint of another version of the code is refused, naming both', async () => {
  const run = await open()
  const { metadata, tensors } = readSafetensors(run.checkpoint() as Uint8Array)
  const older = writeSafetensors(
    [...tensors].map(([name, { shape, bytes }]) => ({
      name,
      dtype: 'F32' as const,
      shape,
      data: toFloat32('F32', bytes),
    })),
    { ...metadata, version: '0.0.1' },
  )
  await assert.rejects(open({}, tinyData(), older), {
    code: 'prefix_invalid',
    message: `the checkpoint cannot be used: version 0.0.1 of the code wrote it, this is version ${version}`,
  })
  assert.equal(run.used['version'], version)
  await run.dispose()
})

test('a checkpoint of another training is refused', async () => {
  const run = await open()
  const checkpoint = run.checkpoint() as Uint8Array
  await assert.rejects(open({ seed: 2 }, tinyData(), checkpoint), { code: 'prefix_invalid', message: /it belongs to/ })
  await assert.rejects(open({}, tinyData(), checkpoint.subarray(0, 100)), { code: 'prefix_invalid' })
  await run.dispose()
})

test('an initialization that nobody knows is refused by name', async () => {
  await assert.rejects(open({ initialization: 'words:x' }), {
    code: 'invalid_request',
    message: /initialization is "words:x"/,
  })
})

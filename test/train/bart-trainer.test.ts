// Trainings of BART: three prefixes or some of them, repeated bit for bit, gone on with, and stored.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { decodePrefix, encodePrefix } from '../../src/prefix/artifact.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import { measureLoss } from '../../src/train/evaluator.ts'
import type { TrainingData, TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { openTraining, type TrainerParts } from '../../src/train/trainer.ts'
import { bartFolder } from '../golden/bart.ts'
import { assertClose } from '../golden/gpt2.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'
import { advance, finish } from './runs.ts'
import { letterTokenizer, tinyData, tinyOptions } from './tiny.ts'

const parts = {
  runtime: createOnnxRuntime({ threads: 1 }),
  model: await openModel(`${bartFolder}/model`),
  tokenizer: letterTokenizer,
}
const data: TrainingData = { ...tinyData(), template: '{input}' }

function open(
  options: Partial<TrainingOptions> = {},
  checkpoint: Uint8Array | null = null,
  from: TrainingData['from'] = null,
  on: TrainerParts = parts,
): Promise<TrainingRun> {
  return openTraining(on, { ...data, from }, { ...tinyOptions, epochs: 3, ...options }, checkpoint)
}

for (const reparametrization of [0, 8]) {
  test(`with a network of ${reparametrization}: loss falls, and a run that was resumed ends bit for bit where an undisturbed one does`, async () => {
    const options = { reparametrization, learningRate: 3e-2, epochs: 12 }
    const undisturbed = await open(options)
    const expected = (await finish(undisturbed)).map(({ loss }) => loss)
    const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
    assert.ok(mean(expected.slice(-4)) < 0.9 * mean(expected.slice(0, 4)), expected.join())

    const begun = await open(options)
    const losses = await advance(begun, 7)
    const checkpoint = begun.checkpoint()
    await begun.dispose()
    const resumed = await open(options, checkpoint)
    losses.push(...(await finish(resumed)).map(({ loss }) => loss))
    assert.deepEqual(losses, expected)
    assert.deepEqual(await resumed.prefix(), await undisturbed.prefix())
    await Promise.all([resumed.dispose(), undisturbed.dispose()])
  })
}

test('a prefix at three places is stored with each of them, comes back as it was, and goes on from there', async () => {
  const run = await open({ steps: 4 })
  await finish(run)
  const prefix = await run.prefix()
  await run.dispose()
  assert.deepEqual(prefix.header.places, [
    { attachment: 'decoder_self', layers: 2 },
    { attachment: 'cross', layers: 2 },
    { attachment: 'encoder_self', layers: 3 },
  ])
  assert.equal(prefix.header.layers, 7)
  assert.equal(prefix.header.textPositionStart, 0)
  const back = decodePrefix(encodePrefix(prefix))
  assert.deepEqual(back, prefix)
  const validation = prefix.header.training['validationLoss'] as number
  const measured = (await measureLoss(parts, back, data.heldOut)) as number
  assert.ok(Math.abs(measured - validation) < 1e-6, `${measured} measured, ${validation} in the training`)

  const from = { label: 'pfx_1@abc', load: async () => back }
  const further = await open({ reparametrization: null, steps: 1, learningRate: 1e-12 }, null, from)
  await finish(further)
  const same = await further.prefix()
  await further.dispose()
  assert.ok(same.keys.every((value, i) => Math.abs(value - (prefix.keys[i] as number)) < 1e-6))
  await assert.rejects(open({ reparametrization: null, attachments: ['cross'] }, null, from), {
    code: 'invalid_request',
    message: /attachments comes to cross, the prefix to start from is attached to decoder_self, cross, encoder_self/,
  })
})

test('trainings at different places that share their steps end bit for bit as each does alone', async () => {
  const kinds: readonly Partial<TrainingOptions>[] = [
    { seed: 1, steps: 5 },
    { seed: 2, steps: 5, attachments: ['cross'], prefixLength: 6, reparametrization: 0 },
    { seed: 3, steps: 5, attachments: ['encoder_self', 'decoder_self'], dropout: 0.3, accumulation: 2 },
  ]
  const ending = async (run: TrainingRun): Promise<{ losses: number[]; checkpoint: Buffer }> => {
    const losses = (await finish(run)).map(({ loss }) => loss)
    const checkpoint = Buffer.from(run.checkpoint() ?? [])
    await run.dispose()
    return { losses, checkpoint }
  }
  const sharing = new SharedSteps(parts.runtime, parts.model)
  const runs = await Promise.all(kinds.map((each) => open(each, null, null, { ...parts, steps: sharing })))
  const together = await Promise.all(runs.map(ending))
  for (const [i, options] of kinds.entries())
    assert.deepEqual(together[i], await ending(await open(options)), `training ${i}`)
})

const { skip } = testCuda

test('on a device optimizer steps of all places have the losses of those on the host, alone and shared', {
  skip,
}, async () => {
  const kinds: readonly Partial<TrainingOptions>[] = [
    { seed: 1, steps: 4 },
    { seed: 2, steps: 4, attachments: ['cross'], reparametrization: 0 },
    { seed: 3, steps: 4, attachments: ['encoder_self', 'decoder_self'], dropout: 0.3, accumulation: 2 },
  ]
  const losses = async (run: TrainingRun): Promise<number[]> => {
    const all = (await finish(run)).map(({ loss }) => loss)
    await run.dispose()
    return all
  }
  const device = { ...parts, runtime: testCuda.open() }
  assert.ok(device.runtime.training !== undefined)
  const sharing = { ...device, steps: new SharedSteps(device.runtime, parts.model) }
  const runs = await Promise.all(kinds.map((each) => open(each, null, null, sharing)))
  const together = await Promise.all(runs.map(losses))
  for (const [i, options] of kinds.entries()) {
    const expected = await losses(await open(options))
    assertClose(`losses of training ${i}`, await losses(await open(options, null, null, device)), expected, 1e-5)
    assertClose(`losses of training ${i} beside others`, together[i] as number[], expected, 1e-5)
  }
})

test('in 8 bits the loss of all three places is near that of float32', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bart-fast-'))
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder } })
  const fast: Runtime = { ...runtime, fastForm: (graph, weights) => runtime.fastForm(graph, weights, 'unsigned') }
  const options: Partial<TrainingOptions> = { steps: 10 }
  const losses: number[] = []
  for (const precision of ['fast', 'float32'] as const) {
    const run = await open({ ...options, precision }, null, null, { ...parts, runtime: fast })
    assert.equal(run.used['form'], precision === 'fast' ? 'unsigned' : 'float32')
    losses.push((await finish(run)).at(-1)?.validationLoss as number)
    await run.dispose()
  }
  await rm(folder, { recursive: true })
  assert.ok(Math.abs((losses[0] as number) / (losses[1] as number) - 1) < 0.02, losses.join(' in 8 bits, '))
})

test('each place alone can be trained, and any two', async () => {
  for (const attachments of [['cross'], ['encoder_self'], ['decoder_self'], ['encoder_self', 'decoder_self']]) {
    const run = await open({ attachments, steps: 3 })
    await finish(run)
    const { header, keys } = await run.prefix()
    await run.dispose()
    const places = header.places?.map(({ attachment }) => attachment) ?? [header.attachment]
    assert.deepEqual(places.toSorted(), attachments.toSorted())
    assert.equal(keys.length, header.layers * 4 * 4 * 8)
    assert.deepEqual(decodePrefix(encodePrefix({ header, keys, values: keys })).header, header)
  }
})

test('words start each place from what they give there: held-out loss is another for each, and none is that of random numbers', async () => {
  const losses = []
  for (const initialization of ['text:abc', 'random']) {
    const run = await open({ reparametrization: 0, initialization, steps: 1, learningRate: 1e-12 })
    await finish(run)
    const { keys } = await run.prefix()
    losses.push(keys)
    await run.dispose()
  }
  assert.notDeepEqual(losses[0], losses[1])
  assert.ok(losses[0]?.every(Number.isFinite))
})

test('places that the model does not have, and variants that need one text, are refused', async () => {
  await assert.rejects(open({ attachments: ['everywhere'] }), { code: 'invalid_request', message: /has everywhere/ })
  await assert.rejects(open({ attachments: [] }), { code: 'invalid_request', message: /names no place/ })
  await assert.rejects(open({ variant: 'embedding', reparametrization: null }), {
    code: 'invalid_request',
    message: /variant is embedding, which needs a model that reads prompt and output as one text/,
  })
})

test('an input that the encoder cannot read is named', async () => {
  const long = [...data.examples, { input: 'x'.repeat(70), output: 'y' }]
  await assert.rejects(openTraining(parts, { ...data, examples: long }, tinyOptions, null), {
    code: 'input_too_long',
    message: /the input of example 25 comes to 72 tokens, the model's encoder reads 64/,
  })
})

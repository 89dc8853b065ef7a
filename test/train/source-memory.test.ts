// Sources that a frozen encoder reads once for all epochs, and what comes of them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import type { TrainingData, TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { isEncoderFrozen, SourceMemory } from '../../src/train/source-memory.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { bartExamples, bartFolder } from '../golden/bart.ts'
import { advance, finish, parts as withoutEncoder } from './runs.ts'
import { letterTokenizer, tinyData, tinyOptions } from './tiny.ts'

const runtime = createOnnxRuntime({ threads: 1 })
const model = await openModel(`${bartFolder}/model`)
const data: TrainingData = { ...tinyData(), template: '{input}' }
const shape = { places: model.places.filter(({ attachment }) => attachment !== 'encoder_self') }
const sourceOf = ({ source }: EncodedExample): readonly number[] => source as readonly number[]

/** The runtime, counting how many sources its programs read. */
function counting(): { readonly runtime: Runtime; readonly sources: { read: number } } {
  const sources = { read: 0 }
  const compile: Runtime['compile'] = async (...given) => {
    const program = await runtime.compile(...given)
    return {
      run: (feeds) => {
        sources.read += feeds['source.tokens']?.shape[0] ?? 0
        return program.run(feeds)
      },
      dispose: () => program.dispose(),
    }
  }
  return { runtime: { ...runtime, compile }, sources }
}

function open(
  steps: SharedSteps | null,
  given: Runtime,
  options: Partial<TrainingOptions>,
  checkpoint: Uint8Array | null = null,
): Promise<TrainingRun> {
  const parts = { runtime: given, model, tokenizer: letterTokenizer, ...(steps && { steps }) }
  return openTraining(
    parts,
    data,
    { ...tinyOptions, epochs: 3, attachments: ['decoder_self', 'cross'], ...options },
    checkpoint,
  )
}

test('only trainings that leave the encoder alone find their sources read', () => {
  assert.ok(isEncoderFrozen(model, shape))
  assert.ok(!isEncoderFrozen(model, model))
  assert.ok(!isEncoderFrozen(withoutEncoder.model, withoutEncoder.model))
})

test('a source is read once however often it is fed, and padded with zeros', async () => {
  const { runtime: counted, sources } = counting()
  const memory = new SourceMemory(counted, model, 'float32')
  const first = await memory.feeds(bartExamples)
  const again = await memory.feeds(bartExamples.toReversed())
  assert.equal(sources.read, bartExamples.length)
  const lengths = bartExamples.map((example) => sourceOf(example).length)
  assert.ok(new Set(lengths).size > 1, 'sources of several lengths')
  assert.deepEqual(Array.from(first['source.lengths']?.data ?? []), lengths)
  const size = Math.max(...lengths) * model.config.width
  assert.deepEqual(first['source.hidden']?.shape, [bartExamples.length, Math.max(...lengths), model.config.width])
  for (const [b, length] of lengths.entries()) {
    const row = first['source.hidden']?.data.subarray(b * size, (b + 1) * size) as Float32Array
    const r = lengths.length - 1 - b
    assert.deepEqual(row, again['source.hidden']?.data.subarray(r * size, (r + 1) * size))
    assert.ok(row.subarray(0, length * model.config.width).every((value) => value !== 0))
    assert.ok(row.subarray(length * model.config.width).every((value) => value === 0))
  }
  assert.equal(memory.bytes, 4 * model.config.width * lengths.reduce((a, b) => a + b, 0))
  await memory.forget()
  assert.equal(memory.bytes, 0)
  assert.deepEqual(await memory.feeds(bartExamples), first)
  await memory.forget()
})

test('what has no room is read anew each time, with the same bits', async () => {
  const { runtime: counted, sources } = counting()
  const room = 4 * model.config.width * sourceOf(bartExamples[0] as EncodedExample).length
  const small = new SourceMemory(counted, model, 'float32', room)
  const large = new SourceMemory(runtime, model, 'float32')
  const once = await small.feeds(bartExamples)
  assert.equal(small.bytes, room)
  assert.deepEqual(await small.feeds(bartExamples), once)
  assert.equal(sources.read, 2 * bartExamples.length - 1)
  assert.deepEqual(await large.feeds(bartExamples), once)
  await Promise.all([small.forget(), large.forget()])
})

test('a training reads each of its examples once, held-out ones too, and so do two that share their steps', async () => {
  const { runtime: counted, sources } = counting()
  const steps = new SharedSteps(counted, model)
  const [one, two] = await Promise.all([open(steps, counted, { seed: 1 }), open(steps, counted, { seed: 2 })])
  const runs = [one, two]
  const reports = await Promise.all(runs.map(finish))
  assert.ok(reports.every((each) => each.some(({ validationLoss }) => validationLoss !== null)))
  const examples = data.examples.length + data.heldOut.length
  // Each prepares its own data.
  assert.equal(sources.read, 2 * examples)
  await Promise.all(runs.map((run) => run.dispose()))
})

test('a training that was resumed in a later epoch ends bit for bit where an undisturbed one does', async () => {
  const undisturbed = await open(null, runtime, { learningRate: 3e-2 })
  const expected = (await finish(undisturbed)).map(({ loss }) => loss)
  const begun = await open(null, runtime, { learningRate: 3e-2 })
  const losses = await advance(begun, Math.ceil(expected.length / 2) + 1)
  const checkpoint = begun.checkpoint()
  await begun.dispose()
  const resumed = await open(null, runtime, { learningRate: 3e-2 }, checkpoint)
  losses.push(...(await finish(resumed)).map(({ loss }) => loss))
  assert.deepEqual(losses, expected)
  assert.deepEqual(await resumed.prefix(), await undisturbed.prefix())
  await Promise.all([resumed.dispose(), undisturbed.dispose()])
})

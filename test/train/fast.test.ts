// Trainings in 8 bits: they learn, repeat themselves bit for bit, say what form they used, and go on in it.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import type { TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { tinyData, tinyOptions, tinyParts } from './tiny.ts'

const parts = await tinyParts()
const never = new AbortController().signal

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-fast-training-'))
})
after(async () => {
  await rm(folder, { recursive: true })
})

/** A machine on which `form` is the fastest. */
function fastestIs(form: string): Runtime {
  const runtime = createOnnxRuntime({ threads: 1, fast: { folder } })
  return { ...runtime, fastForm: (graph, weights, wanted) => runtime.fastForm(graph, weights, wanted ?? form) }
}

const open = (
  runtime: Runtime,
  options: Partial<TrainingOptions> = { precision: 'fast' },
  checkpoint: Uint8Array | null = null,
): Promise<TrainingRun> => openTraining({ ...parts, runtime }, tinyData(), { ...tinyOptions, ...options }, checkpoint)

async function finish(run: TrainingRun): Promise<Awaited<ReturnType<TrainingRun['prefix']>>> {
  for await (const _ of run.steps(never));
  const prefix = await run.prefix()
  await run.dispose()
  return prefix
}

test('the same seed in the same form gives the same prefix bit for bit, near that of float32', async () => {
  const first = await finish(await open(fastestIs('unsigned')))
  assert.deepEqual(first, await finish(await open(fastestIs('unsigned'))))
  assert.equal(first.header.training['form'], 'unsigned')
  assert.equal(first.header.training['precision'], 'fast')

  const plain = await finish(await open(fastestIs('unsigned'), {}))
  assert.equal(plain.header.training['form'], 'float32')
  assert.notDeepEqual(first.keys, plain.keys)
  const losses = [first, plain].map(({ header }) => header.training['validationLoss'] as number)
  const [fast, slow] = losses as [number, number]
  assert.ok(Math.abs(fast / slow - 1) < 0.02, `held-out loss ${fast} in 8 bits, ${slow} in float32`)
})

test('a run goes on in the form it began with, whatever is the fastest now, and ends bit for bit the same', async () => {
  const expected = await finish(await open(fastestIs('unsigned')))
  const begun = await open(fastestIs('unsigned'))
  for await (const { step } of begun.steps(never)) if (step === 7) break
  const checkpoint = begun.checkpoint()
  await begun.dispose()
  const resumed = await open(fastestIs('mixed'), { precision: 'fast' }, checkpoint)
  assert.equal(resumed.used['form'], 'unsigned')
  assert.deepEqual(await finish(resumed), expected)
})

test('a checkpoint of another form is refused', async () => {
  const begun = await open(fastestIs('unsigned'))
  const checkpoint = begun.checkpoint()
  await begun.dispose()
  await assert.rejects(open(fastestIs('unsigned'), {}, checkpoint), { code: 'prefix_invalid' })
  // A machine that keeps no weights in 8 bits can go on in float32 alone.
  const without = createOnnxRuntime({ threads: 1 })
  await assert.rejects(open(without, { precision: 'fast' }, checkpoint), { code: 'prefix_invalid' })
})

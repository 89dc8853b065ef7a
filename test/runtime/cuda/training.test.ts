// Training on the device: it learns as on the CPU, resumes bit for bit, and its fast form stays near.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../../src/model/model.ts'
import { trainingGraph, gradientOf } from '../../../src/train/graphs.ts'
import { prefixShape } from '../../../src/train/parameters.ts'
import { SharedSteps } from '../../../src/train/shared-steps.ts'
import { openTraining, type TrainerParts } from '../../../src/train/trainer.ts'
import type { TrainingOptions, TrainingRun } from '../../../src/train/options.ts'
import { assertClose, golden, goldenFeeds, goldenFolder, relativeError, toTensor } from '../../golden/gpt2.ts'
import { advance, finish } from '../../train/runs.ts'
import { tinyData, tinyOptions, tinyParts } from '../../train/tiny.ts'
import { testCuda } from './runtimes.ts'

const { skip } = testCuda

async function cudaParts(): Promise<TrainerParts> {
  return { ...(await tinyParts()), runtime: testCuda.open() }
}

const open = (parts: TrainerParts, options: Partial<TrainingOptions> = {}, checkpoint: Uint8Array | null = null) =>
  openTraining(parts, tinyData(), { ...tinyOptions, epochs: 3, ...options }, checkpoint)

async function prefixOf(run: TrainingRun): Promise<Uint8Array> {
  const { keys, values } = await run.prefix()
  return Buffer.concat([Buffer.from(keys.buffer), Buffer.from(values.buffer)])
}

test('a training on the device has the losses of the CPU', { skip }, async () => {
  const losses: number[][] = []
  for (const parts of [await cudaParts(), await tinyParts()]) losses.push(await advance(await open(parts), 12))
  assertClose('losses', losses[0] as number[], losses[1] as number[], 1e-4)
  assert.ok((losses[0]!.at(-1) as number) < (losses[0]![0] as number), 'it learns')
})

test('a training stopped in the middle and resumed by another process ends bit for bit as one that was not', {
  skip,
}, async () => {
  const whole = await open(await cudaParts())
  await finish(whole)
  const first = await open(await cudaParts())
  await advance(first, 7)
  const resumed = await open(await cudaParts(), {}, first.checkpoint())
  await finish(resumed)
  assert.deepEqual(await prefixOf(resumed), await prefixOf(whole))
})

test('two trainings share the steps of the device, and each has the losses it has alone', { skip }, async () => {
  const parts = await cudaParts()
  const alone: number[][] = []
  for (const seed of [1, 2]) alone.push(await advance(await open(parts, { seed }), 8))
  const steps = new SharedSteps(parts.runtime, parts.model)
  const runs = await Promise.all([1, 2].map((seed) => open({ ...parts, steps }, { seed })))
  const together = await Promise.all(runs.map((run) => advance(run, 8)))
  together.forEach((losses, i) => assertClose(`training ${i}`, losses, alone[i] as number[], 1e-5))
})

test('with weights in bfloat16 losses and gradients stay within what its 8 bits of fraction allow', {
  skip,
}, async () => {
  const model = await openModel(`${goldenFolder}/model`)
  const runtime = testCuda.open({ checked: true })
  const graph = trainingGraph(model, prefixShape(model.config, golden.prefixLength, 0))
  const form = await runtime.fastForm(graph, model.weights)
  assert.equal(form, 'bfloat16')
  const program = await runtime.compile(graph, model.weights, form)
  const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }
  const outputs = await program.run({ ...goldenFeeds('mean'), ...prefix })
  await program.dispose()
  // A number is rounded by up to 2⁻⁹ of itself, at some dozens of places one after the other.
  assertClose('losses', outputs['tokenLosses']!.data, golden.expected.tokenLosses.data, 0.01)
  for (const [name, expected] of Object.entries(golden.expected.gradients.mean)) {
    const error = relativeError(outputs[gradientOf(name)]!.data, expected.data)
    assert.ok(
      error < 0.03 && error > 1e-6,
      `gradient of ${name} is off by ${error}: too much, or not in bfloat16 at all`,
    )
  }
})

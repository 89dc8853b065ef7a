// Training on the GPU: it learns as on the CPU, resumes bit for bit, and shares steps.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SharedSteps } from '../../../src/train/shared-steps.ts'
import { openTraining, type TrainerParts } from '../../../src/train/trainer.ts'
import type { TrainingOptions, TrainingRun } from '../../../src/train/options.ts'
import { assertClose } from '../../golden/gpt2.ts'
import { advance, finish } from '../../train/runs.ts'
import { tinyData, tinyOptions, tinyParts } from '../../train/tiny.ts'
import { testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu

async function webgpuParts(): Promise<TrainerParts> {
  return { ...(await tinyParts()), runtime: await testWebgpu.open() }
}

/** Five steps, and held-out losses of one batch. */
const data = tinyData(20, 2)
const open = (parts: TrainerParts, options: Partial<TrainingOptions> = {}, checkpoint: Uint8Array | null = null) =>
  openTraining(parts, data, { ...tinyOptions, epochs: 1, ...options }, checkpoint)

async function prefixOf(run: TrainingRun): Promise<Uint8Array> {
  const { keys, values } = await run.prefix()
  return Buffer.concat([Buffer.from(keys.buffer), Buffer.from(values.buffer)])
}

test('a training on the device has the losses of the CPU', { skip }, async () => {
  const losses: number[][] = []
  for (const parts of [await webgpuParts(), await tinyParts()]) losses.push(await advance(await open(parts), 5))
  assertClose('losses', losses[0] as number[], losses[1] as number[], 1e-4)
  assert.ok((losses[0]!.at(-1) as number) < (losses[0]![0] as number), 'it learns')
})

test('a training stopped in the middle and resumed by another process ends bit for bit as one that was not', {
  skip,
}, async () => {
  const whole = await open(await webgpuParts())
  await finish(whole)
  const first = await open(await webgpuParts())
  await advance(first, 2)
  const resumed = await open(await webgpuParts(), {}, first.checkpoint())
  await finish(resumed)
  assert.deepEqual(await prefixOf(resumed), await prefixOf(whole))
})

test('two trainings share the steps of the device, and each has the losses it has alone', { skip }, async () => {
  const parts = await webgpuParts()
  const alone: number[][] = []
  for (const seed of [1, 2]) alone.push(await advance(await open(parts, { seed }), 3))
  const steps = new SharedSteps(parts.runtime, parts.model)
  const runs = await Promise.all([1, 2].map((seed) => open({ ...parts, steps }, { seed })))
  const together = await Promise.all(runs.map((run) => advance(run, 3)))
  together.forEach((losses, i) => assertClose(`training ${i}`, losses, alone[i] as number[], 1e-5))
})

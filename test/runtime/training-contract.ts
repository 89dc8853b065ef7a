// A training on a device: it learns as on the CPU, resumes bit for bit, and shares steps.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Runtime } from '../../src/runtime/runtime.ts'
import type { TrainingData, TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { openTraining, type TrainerParts } from '../../src/train/trainer.ts'
import { assertClose } from '../golden/gpt2.ts'
import { advance, finish } from '../train/runs.ts'
import { tinyOptions, tinyParts } from '../train/tiny.ts'

export interface TrainingContract {
  readonly skip: string | false
  readonly open: () => Runtime | Promise<Runtime>
  readonly data: TrainingData
  readonly epochs: number
  /** Steps of the training that is set beside the CPU's, of the one that is stopped, and of those that share steps. */
  readonly steps: { readonly beside: number; readonly stopped: number; readonly shared: number }
}

export function testTraining({ skip, open: openRuntime, data, epochs, steps }: TrainingContract): void {
  const deviceParts = async (): Promise<TrainerParts> => ({ ...(await tinyParts()), runtime: await openRuntime() })
  const open = (parts: TrainerParts, options: Partial<TrainingOptions> = {}, checkpoint: Uint8Array | null = null) =>
    openTraining(parts, data, { ...tinyOptions, epochs, ...options }, checkpoint)

  test('a training on the device has the losses of the CPU', { skip }, async () => {
    const losses: number[][] = []
    for (const parts of [await deviceParts(), await tinyParts()])
      losses.push(await advance(await open(parts), steps.beside))
    assertClose('losses', losses[0] as number[], losses[1] as number[], 1e-4)
    assert.ok((losses[0]!.at(-1) as number) < (losses[0]![0] as number), 'it learns')
  })

  test('a training stopped in the middle and resumed by another process ends bit for bit as one that was not', {
    skip,
  }, async () => {
    const whole = await open(await deviceParts())
    await finish(whole)
    const first = await open(await deviceParts())
    await advance(first, steps.stopped)
    const resumed = await open(await deviceParts(), {}, first.checkpoint())
    await finish(resumed)
    assert.deepEqual(await prefixOf(resumed), await prefixOf(whole))
  })

  test('two trainings share the steps of the device, and each has the losses it has alone', { skip }, async () => {
    const parts = await deviceParts()
    const alone: number[][] = []
    for (const seed of [1, 2]) alone.push(await advance(await open(parts, { seed }), steps.shared))
    const together = new SharedSteps(parts.runtime, parts.model)
    const runs = await Promise.all([1, 2].map((seed) => open({ ...parts, steps: together }, { seed })))
    const losses = await Promise.all(runs.map((run) => advance(run, steps.shared)))
    losses.forEach((own, i) => assertClose(`training ${i}`, own, alone[i] as number[], 1e-5))
  })
}

async function prefixOf(run: TrainingRun): Promise<Uint8Array> {
  const { keys, values } = await run.prefix()
  return Buffer.concat([Buffer.from(keys.buffer), Buffer.from(values.buffer)])
}

// Trainings that go through the model together: each ends as it would have alone.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../../src/random/random.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import type { TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { advance, finish, parts } from './runs.ts'
import { tinyData, tinyOptions } from './tiny.ts'

const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e6))

/** As different as trainings of one model can be. */
const kinds: readonly Partial<TrainingOptions>[] = [
  { seed: 1 },
  { seed: 2, reparametrization: 0, prefixLength: 7, batchSize: 3 },
  { seed: 3, reparametrization: 0, dropout: 0.3, accumulation: 2 },
  { seed: 4, reparametrization: 0, variant: 'embedding', prefixLength: 5 },
  { seed: 5, labelSmoothing: 0.1, batchSize: 7 },
]

function open(steps: SharedSteps, options: Partial<TrainingOptions>, checkpoint: Uint8Array | null = null) {
  return openTraining({ ...parts, steps }, tinyData(), { ...tinyOptions, ...options }, checkpoint)
}

/** Everything there is to know of a training that ended; Buffers compare by content. */
async function ending(run: TrainingRun): Promise<{ losses: number[]; checkpoint: Buffer }> {
  const losses = (await finish(run)).map(({ loss }) => loss)
  const checkpoint = Buffer.from(run.checkpoint() ?? [])
  await run.dispose()
  return { losses, checkpoint }
}

async function alone(options: Partial<TrainingOptions>) {
  return ending(await open(new SharedSteps(parts.runtime, parts.model), options))
}

/** The runtime, counting how many trainings each program that it makes is for. */
function countingRuntime(compiled: number[]): Runtime {
  return {
    ...parts.runtime,
    compile: (graph, weights) => {
      const inputs = graph.nodes.filter((node) => node.op === 'input').map((node) => node.attributes.name)
      compiled.push(inputs.filter((name) => /(^|\.)tokens$/.test(name)).length)
      return parts.runtime.compile(graph, weights)
    },
  }
}

test('trainings that share their steps end bit for bit as each does alone', async () => {
  const compiled: number[] = []
  const steps = new SharedSteps(countingRuntime(compiled), parts.model)
  const runs = await Promise.all(kinds.map((options) => open(steps, options)))
  assert.equal(steps.members, kinds.length)
  const together = await Promise.all(runs.map(ending))
  // The last one smooths its labels and goes by itself.
  assert.equal(Math.max(...compiled), kinds.length - 1)
  assert.equal(steps.members, 0)
  for (const [i, options] of kinds.entries())
    assert.deepEqual(together[i], await alone(options), JSON.stringify(options))
})

test(`trainings that join and leave at any step disturb no other (seed ${seed})`, async () => {
  const random = new Random(seed)
  const steps = new SharedSteps(parts.runtime, parts.model)
  const staying = await open(steps, { seed: 9, steps: 30 })
  const ended = ending(staying)
  for (let visitor = 0; visitor < 4; visitor++) {
    const options = kinds[Math.floor(random.next() * 4)] as Partial<TrainingOptions>
    const first = await open(steps, options)
    await advance(first, 1 + Math.floor(random.next() * 4))
    const checkpoint = first.checkpoint()
    await first.dispose()
    // It comes back with what it left, at another step of the one that stays.
    assert.deepEqual(
      (await ending(await open(steps, options, checkpoint))).checkpoint,
      (await alone(options)).checkpoint,
    )
  }
  assert.deepEqual(await ended, await alone({ seed: 9, steps: 30 }))
})

test('trainings of many rows take steps of their own', async () => {
  const compiled: number[] = []
  const steps = new SharedSteps(countingRuntime(compiled), parts.model)
  const data = tinyData(160)
  const openLarge = (shared: SharedSteps, seed: number) =>
    openTraining({ ...parts, steps: shared }, data, { ...tinyOptions, batchSize: 80, steps: 3, seed }, null)
  const runs = await Promise.all([1, 2].map((each) => openLarge(steps, each)))
  const ends = await Promise.all(runs.map(ending))
  assert.deepEqual([...new Set(compiled)], [1])
  for (const [i, end] of ends.entries()) {
    assert.deepEqual(end, await ending(await openLarge(new SharedSteps(parts.runtime, parts.model), i + 1)))
  }
})

test('a training that is not ready is waited for only so long', async () => {
  const steps = new SharedSteps(parts.runtime, parts.model)
  const idle = await open(steps, { seed: 1 })
  const run = await open(steps, { seed: 2, steps: 2 })
  assert.deepEqual(await ending(run), await alone({ seed: 2, steps: 2 }))
  await idle.dispose()
})

test('a step that fails for several is taken by each alone, so that the failure is its own', async () => {
  const failing: Runtime = {
    ...parts.runtime,
    compile: async (graph, weights) => {
      const inputs = graph.nodes.filter((node) => node.op === 'input').map((node) => node.attributes)
      if (inputs.some(({ name }) => name === '1.tokens')) throw new Error('out of memory')
      const isLong = inputs.some(({ name, shape }) => name === 'keys' && shape[2] === 7)
      if (isLong && graph.nodes.some(({ op }) => op === 'attentionGrad')) throw new Error('far too long a prefix')
      return parts.runtime.compile(graph, weights)
    },
  }
  const steps = new SharedSteps(failing, parts.model)
  const runs = await Promise.all([kinds[0], kinds[1]].map((options) => open(steps, options ?? {})))
  const [well, badly] = await Promise.allSettled(runs.map(ending))
  assert.deepEqual(well, { status: 'fulfilled', value: await alone(kinds[0] ?? {}) })
  assert.ok(badly?.status === 'rejected' && /far too long/.test(String(badly.reason)))
})

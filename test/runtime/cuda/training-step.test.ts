// Optimizer steps on the device, as one CUDA graph with forward and backward, against AdamW on the host.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { gradient } from '../../../src/graph/gradient.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import type { Runtime } from '../../../src/runtime/runtime.ts'
import { trainedGroups, type TrainedState, type TrainingUpdate } from '../../../src/runtime/training.ts'
import { readSafetensors, toFloat32 } from '../../../src/tensor/safetensors.ts'
import { float32 } from '../../../src/tensor/tensor.ts'
import { AdamW, adamWDefaults, untrained } from '../../../src/train/adamw.ts'
import type { TrainingOptions, TrainingRun } from '../../../src/train/options.ts'
import { SharedSteps } from '../../../src/train/shared-steps.ts'
import { openTraining, type TrainerParts } from '../../../src/train/trainer.ts'
import { assertClose } from '../../golden/gpt2.ts'
import { advance, finish } from '../../train/runs.ts'
import { tinyData, tinyOptions, tinyParts } from '../../train/tiny.ts'
import { isOnDevice, testCuda } from './runtimes.ts'

const { skip } = testCuda
const none = { folder: '', tensors: new Map() }

/** `loss = Σ (x · y)` of each trainable x: its gradient is the y that is fed. */
// The last is more than the blocks of a norm take in one turn.
const sizes = { small: [3], odd: [5, 7], large: [600, 513] } as const
const names = Object.keys(sizes) as (keyof typeof sizes)[]
const sizeOf = (name: keyof typeof sizes): number => sizes[name].reduce((a: number, b) => a * b, 1)

function productGraph() {
  const g = new GraphBuilder()
  const inputs = names.map((name) => g.input(name, sizes[name]))
  const products = names.map((name, i) => g.sumTo(g.mul(inputs[i] as Value, g.input(`y.${name}`, sizes[name])), []))
  const loss = products.reduce((a, b) => g.add(a, b))
  const gradients = gradient(g, loss, inputs)
  return makeGraph({ loss, ...Object.fromEntries(names.map((name, i) => [`d.${name}`, gradients[i] as Value])) })
}

const drawn = (random: Random, scale: number): Map<string, Float32Array> =>
  new Map(names.map((name) => [name, Float32Array.from({ length: sizeOf(name) }, () => scale * random.normal())]))

const copied = (state: TrainedState): TrainedState => {
  const [parameters, first, second] = trainedGroups.map(
    (group) => new Map([...state[group]].map(([name, data]) => [name, data.slice()])),
  )
  return { parameters: parameters!, first: first!, second: second! }
}

const places: TrainingUpdate['places'] = new Map(names.map((name) => [name, { input: name, gradient: `d.${name}` }]))

for (const [what, scale, clipNorm, weightDecay] of [
  ['clipped gradients', 1, 1, 0],
  ['gradients that need no clipping, and weight decay', 1e-4, 1, 0.1],
  ['gradients of zero', 0, 1, 0],
] as const) {
  test(`with ${what}, steps over one and several batches do what AdamW does on the host`, { skip }, async () => {
    const { training } = testCuda.open({ checked: true })
    const options = { ...adamWDefaults, clipNorm, weightDecay }
    const random = new Random(3)
    const state = untrained(drawn(random, 1))
    const expected = copied(state)
    const optimizer = new AdamW(expected, options)
    const trainables = training.hold(state, options)
    const program = await training.compile(productGraph(), none, 'float32')
    for (let number = 1; number <= 6; number++) {
      const learningRate = 0.01 / number
      const batches = Array.from({ length: number % 3 === 0 ? 3 : 1 }, () => drawn(random, scale))
      let norm: number | null = null
      for (const [i, batch] of batches.entries()) {
        const feeds = Object.fromEntries(
          [...batch].map(([name, data]) => [`y.${name}`, float32(data, sizes[name as keyof typeof sizes])]),
        )
        const step = i === batches.length - 1 ? { number, learningRate } : null
        const answer = await program.run(feeds, [{ trainables, places, adds: i > 0, step }])
        assert.deepEqual(Object.keys(answer.outputs), ['loss'], 'gradients stay where they are')
        norm = answer.gradientNorms[0] ?? null
        assert.equal(norm === null, step === null)
      }
      const sums = new Map(
        names.map((name) => [
          name,
          Float32Array.from({ length: sizeOf(name) }, (_, i) =>
            batches.reduce((sum, batch) => Math.fround(sum + batch.get(name)![i]!), 0),
          ),
        ]),
      )
      const wantedNorm = optimizer.update(sums, number, learningRate)
      assert.ok(
        Math.abs((norm ?? NaN) - wantedNorm) <= 1e-6 * wantedNorm,
        `norm ${norm} for ${wantedNorm} in step ${number}`,
      )
    }
    const wanted = { parameters: expected.parameters, first: optimizer.first, second: optimizer.second }
    for (const group of trainedGroups)
      for (const [name, data] of trainables.read(group))
        if (scale > 0 || group === 'parameters') assertClose(`${group} ${name}`, data, wanted[group].get(name)!, 2e-6)
        else assert.ok(data.every((value) => value === 0))
    await program.dispose()
    trainables.dispose()
  })
}

test('what is read and held again goes on bit for bit', { skip }, async () => {
  const { training } = testCuda.open()
  const random = new Random(4)
  const state = untrained(drawn(random, 1))
  const program = await training.compile(productGraph(), none, 'float32')
  const feeds = [1, 2, 3, 4].map(() =>
    Object.fromEntries(
      [...drawn(random, 1)].map(([name, data]) => [`y.${name}`, float32(data, sizes[name as keyof typeof sizes])]),
    ),
  )
  const end = async (isHeldAgain: boolean, order = ''): Promise<unknown> => {
    if (!isOnDevice) process.env['STAND_IN_ORDER'] = order
    let trainables = training.hold(state, adamWDefaults)
    for (const [i, feed] of feeds.entries()) {
      await program.run(feed, [{ trainables, places, adds: false, step: { number: i + 1, learningRate: 0.1 } }])
      if (i !== 1 || !isHeldAgain) continue
      const [parameters, first, second] = trainedGroups.map((group) => trainables.read(group))
      trainables.dispose()
      trainables = training.hold({ parameters: parameters!, first: first!, second: second! }, adamWDefaults)
    }
    delete process.env['STAND_IN_ORDER']
    return trainedGroups.map((group) => trainables.read(group))
  }
  const whole = await end(false)
  assert.deepEqual(await end(true), whole)
  // The last thread of each block goes first: a barrier that is missing shows.
  assert.deepEqual(await end(false, 'backwards'), whole)
})

/** The same runtime, whose optimizer steps are the host's. */
const onHost = ({ training: _training, ...runtime }: Runtime): Runtime => runtime

const open = (parts: TrainerParts, options: Partial<TrainingOptions>): Promise<TrainingRun> =>
  openTraining(parts, tinyData(), { ...tinyOptions, epochs: 4, ...options }, null)

function stateOf(run: TrainingRun): Map<string, Float32Array> {
  const { tensors } = readSafetensors(run.checkpoint() as Uint8Array)
  return new Map([...tensors].map(([name, { bytes }]) => [name, toFloat32('F32', bytes)]))
}

for (const [what, options] of [
  ['the direct prefix', { reparametrization: 0 }],
  ['the reparametrized prefix', { reparametrization: 8 }],
  ['embeddings', { variant: 'embedding', reparametrization: 0 }],
  ['an infix', { variant: 'infix', reparametrization: 8 }],
  ['dropout, weight decay and three batches a step', { dropout: 0.1, weightDecay: 0.01, accumulation: 3, epochs: 9 }],
] as const) {
  test(`ten steps of ${what} on the device have the losses, and leave the trainables, of AdamW on the host`, {
    skip,
  }, async () => {
    const runtime = testCuda.open()
    const ends = []
    for (const each of [runtime, onHost(runtime)]) {
      const run = await open({ ...(await tinyParts()), runtime: each }, options)
      ends.push({ losses: await advance(run, 10), state: stateOf(run) })
      await run.dispose()
    }
    const [device, host] = ends as [(typeof ends)[0], (typeof ends)[0]]
    assert.equal(device.losses.length, 10)
    assertClose('losses', device.losses, host.losses, 1e-5)
    for (const [name, data] of host.state) assertClose(name, device.state.get(name)!, data, 1e-5)
    const start = await open({ ...(await tinyParts()), runtime }, options)
    for (const [name, data] of stateOf(start)) assert.notDeepEqual(data, device.state.get(name), `${name} was trained`)
  })
}

test('four trainings of two kinds that share steps on the device end as each does alone', { skip }, async () => {
  const parts = { ...(await tinyParts()), runtime: testCuda.open() }
  const steps = 6
  const kinds = [{ seed: 1 }, { seed: 2 }, { seed: 3, reparametrization: 0 }, { seed: 4, accumulation: 2 }].map(
    (options) => ({ steps, ...options }),
  )
  const alone: Map<string, Float32Array>[] = []
  for (const options of kinds) {
    const run = await open(parts, options)
    await finish(run)
    alone.push(stateOf(run))
  }
  const together = { ...parts, steps: new SharedSteps(parts.runtime, parts.model) }
  const runs = await Promise.all(kinds.map((options) => open(together, options)))
  await Promise.all(runs.map(finish))
  runs.forEach((run, i) => {
    for (const [name, data] of alone[i]!) assertClose(`${name} of training ${i}`, stateOf(run).get(name)!, data, 1e-5)
  })
})

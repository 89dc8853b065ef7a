// Options that were left open: candidates are tried side by side, and the best one goes on.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Choice, TrainingOptions, TrainingRun } from '../../src/train/options.ts'
import { trainingDefaults } from '../../src/train/options.ts'
import { variantsOf } from '../../src/train/candidates.ts'
import { prepareData } from '../../src/train/run.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { advance, finish, open, parts } from './runs.ts'
import { tinyData, tinyOptions } from './tiny.ts'

const nothingGiven: TrainingOptions = { ...trainingDefaults, batchSize: 4, steps: 60 }
const data = tinyData(40, 12)

const openOpen = (options: Partial<TrainingOptions> = {}, checkpoint: Uint8Array | null = null): Promise<TrainingRun> =>
  openTraining(parts, data, { ...nothingGiven, ...options }, checkpoint)
const choiceOf = ({ used }: TrainingRun): Choice => used['choice'] as Choice
const bytesOf = (run: TrainingRun): Buffer => Buffer.from(run.checkpoint() ?? [])

test('with nothing given a choice is made, and what comes of it is the training of the chosen options, bit for bit', async () => {
  const run = await openOpen()
  const reports = await finish(run)
  const { chosen, tried } = choiceOf(run)
  // Four rates of one form and two of the other, the best of them once more with two lengths and two beginnings.
  assert.equal(tried.length, 6 + 3 + 4)
  for (const [name, value] of Object.entries(chosen)) assert.equal(run.used[name], value, name)
  const choosing = reports.filter((report) => report.choosing !== undefined)
  assert.ok(choosing.length > 0 && choosing.every(({ step }) => step === 0))
  assert.ok(choosing.every(({ choosing: { done, total } = { done: 1, total: 0 } }) => done <= total))
  assert.equal(choosing.at(-1)?.choosing?.done, choosing.at(-1)?.choosing?.total)

  const given = await openTraining(parts, data, { ...nothingGiven, ...chosen }, null)
  await finish(given)
  assert.equal(given.used['choice'], undefined)
  const [byChoice, byHand] = [await run.prefix(), await given.prefix()]
  assert.deepEqual([byChoice.keys, byChoice.values], [byHand.keys, byHand.values])
  assert.equal(run.step, given.step)
  await Promise.all([run.dispose(), given.dispose()])
})

test('the winner is the one with the least held-out loss, but for differences that are noise', async () => {
  const run = await openOpen()
  await finish(run)
  const { chosen, tried } = choiceOf(run)
  const last = tried.slice(6)
  const lossOf = (each: Choice['tried'][number]): number => each.loss ?? Infinity
  const best = Math.min(...last.map(lossOf))
  const own = last.find((each) =>
    Object.entries(chosen).every(([name, value]) => each[name as keyof typeof chosen] === value),
  )
  assert.ok(own !== undefined && lossOf(own) <= best * 1.0051, JSON.stringify(tried))
  await run.dispose()
})

test('a choice that is broken off leaves no checkpoint and is made again the same; one that is made is kept', async () => {
  const whole = await openOpen()
  await finish(whole)
  const expected = bytesOf(whole)

  const broken = await openOpen()
  await advance(broken, 5)
  assert.deepEqual([broken.step, broken.checkpoint()], [0, null])
  await finish(broken)
  assert.deepEqual(bytesOf(broken), expected)

  const stopped = await openOpen()
  const stop = new AbortController()
  for await (const { step } of stopped.steps(stop.signal)) if (step > 0) stop.abort()
  const resumed = await openOpen({}, stopped.checkpoint())
  assert.deepEqual(choiceOf(resumed), choiceOf(whole))
  const reports = await finish(resumed)
  assert.ok(reports.every(({ choosing }) => choosing === undefined))
  assert.deepEqual(bytesOf(resumed), expected)
  await Promise.all([whole, broken, stopped, resumed].map((run) => run.dispose()))
})

test('what is given is left as it is', async () => {
  const given = { learningRate: 0.02, reparametrization: 0 }
  const run = await openOpen(given)
  await finish(run)
  const { tried } = choiceOf(run)
  assert.ok(tried.every((each) => each.learningRate === 0.02 && each.reparametrization === 0))
  assert.deepEqual(
    [...new Set(tried.map(({ prefixLength }) => prefixLength))].sort((a, b) => a - b),
    [5, 10, 20],
  )
  await run.dispose()
  const all = await open()
  assert.equal((await finish(all))[0]?.choosing, undefined)
  await all.dispose()
})

test('without held-out examples rates are compared by training loss, and length and beginning are the usual ones', async () => {
  const run = await openTraining(parts, { ...data, heldOut: [] }, { ...nothingGiven, steps: 20 }, null)
  await finish(run)
  const { chosen, tried } = choiceOf(run)
  assert.deepEqual([chosen.prefixLength, chosen.initialization], [10, 'text:table to text'])
  assert.equal(tried.length, 6 + 3)
  await run.dispose()
})

test('a length that leaves the longest example no room is not tried', () => {
  const prepared = prepareData(parts, data, 10)
  const longest = Math.max(...prepared.encoded.map(({ tokens }) => tokens.length))
  const best = { ...tinyOptions, learningRate: 1, reparametrization: 0, initialization: 'random' }
  const lengths = variantsOf(
    best,
    { ...nothingGiven, initialization: 'random' },
    { positionsMax: longest + 19 },
    prepared,
  )
  assert.deepEqual(
    lengths.map(({ prefixLength }) => prefixLength),
    [5],
  )
})

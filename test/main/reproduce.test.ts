// A prefix trained again from its record: the same bits, or what differs.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeEnvironment } from '../../src/jobs/environment.ts'
import { reproduce, type ReproductionParts } from '../../src/main/reproduce.ts'
import { Datasets } from '../../src/prefix/datasets.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { splitExamples } from '../../src/train/split.ts'
import { openTraining } from '../../src/train/trainer.ts'
import { tinyData, tinyOptions, tinyParts } from '../train/tiny.ts'

const trainer = await tinyParts()
const { template, examples } = tinyData()
const validation = 0.25
const silent = (): void => undefined

interface Stored extends ReproductionParts {
  readonly id: string
  readonly registry: PrefixRegistry
  readonly threadsAsked: number[]
}

/** A store with one prefix in it that was trained as a training job does it; `change` is made to it before it is stored. */
async function trainAndStore(change: (prefix: Prefix) => Prefix, environment: object = {}): Promise<Stored> {
  const store = new MemoryStore()
  const [registry, datasets] = [new PrefixRegistry(store), new Datasets(store)]
  const dataset = await datasets.put(examples)
  const model = { name: 'tiny', sha256: trainer.model.sha256 }
  const { id } = await registry.create({
    name: 'letters',
    jobId: null,
    model,
    tokenizerSha256: trainer.tokenizer.sha256,
    template,
    prefixLength: tinyOptions.prefixLength,
    training: {},
    dataset,
    validation,
  })
  const data = { ...splitExamples(examples, validation, tinyOptions.seed), template, from: null }
  const run = await openTraining(trainer, data, tinyOptions, null)
  for await (const _ of run.steps(new AbortController().signal));
  const training = { ...run.used, ...describeEnvironment(1), ...environment }
  await registry.publish(id, change(await run.prefix()), { training, step: run.step, steps: run.step })
  await run.dispose()
  const threadsAsked: number[] = []
  const openTrainer = async (threads: number): Promise<typeof trainer> => {
    threadsAsked.push(threads)
    return trainer
  }
  return { id, registry, datasets, threads: 7, openTrainer, threadsAsked }
}

test('the record is enough to make the same keys and values again, bit for bit', async () => {
  const parts = await trainAndStore((prefix) => prefix)
  const steps: number[] = []
  const started: string[] = []
  const outcome = await reproduce(
    'letters',
    parts,
    ({ id }) => void started.push(id),
    ({ step }) => void steps.push(step),
  )
  const { layers, heads, headDim } = trainer.model.config
  const numbers = 2 * layers * heads * headDim * tinyOptions.prefixLength
  assert.deepEqual(outcome, { isIdentical: true, numbers, differences: [] })
  assert.deepEqual([started, parts.threadsAsked], [[parts.id], [1]])
  assert.equal(steps.at(-1), (await parts.registry.find('letters')).step)
})

test('a single bit makes the difference, and is named; zero with another sign is another number', async () => {
  const parts = await trainAndStore((prefix) => {
    const values = prefix.values.slice()
    values[5] = -0
    return { ...prefix, values }
  })
  const { isIdentical, differences } = await reproduce(parts.id, parts, silent, silent)
  assert.equal(isIdentical, false)
  assert.equal(differences.length, 1)
  assert.match(
    differences[0] ?? '',
    /^values: 1 of \d+ numbers differ by up to \d\S*; the first, number 5: -?0 is stored/,
  )
})

test('other code or another processor is named, and is no difference where the numbers are the same', async () => {
  const parts = await trainAndStore((prefix) => prefix, { codeVersion: '0.0.1', cpu: undefined })
  const { isIdentical, differences } = await reproduce('letters', parts, silent, silent)
  assert.equal(isIdentical, true)
  assert.match(differences.join('\n'), /^codeVersion: "0\.0\.1" then, ".*" now\ncpu: not recorded then, ".*" now$/)
})

test('a prefix of unknown making, or of another model, is refused with what is missing or both sides', async () => {
  const parts = await trainAndStore((prefix) => prefix)
  const again = (): Promise<unknown> => reproduce('letters', parts, silent, silent)
  await parts.registry.update(parts.id, { validation: null })
  await assert.rejects(again(), { code: 'not_supported', message: /does not name which examples were held out/ })
  await parts.registry.update(parts.id, { dataset: null })
  await assert.rejects(again(), { code: 'not_supported', message: /does not name the examples it was trained on/ })
  const { model } = trainer
  const other = { ...trainer, model: { ...model, sha256: 'f'.repeat(64) } }
  const foreign = { ...(await trainAndStore((prefix) => prefix)), openTrainer: async () => other }
  await assert.rejects(reproduce('letters', foreign, silent, silent), { code: 'prefix_model_mismatch' })
  await assert.rejects(reproduce('nobody', parts, silent, silent), { code: 'prefix_not_found' })
})

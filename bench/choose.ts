// How good the options are that are chosen where nothing is given: beside a grid of rates and forms, on examples of E2E.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { openModel } from '../src/model/model.ts'
import type { Example } from '../src/prefix/example.ts'
import { defaultTemplate } from '../src/prefix/template.ts'
import { Random } from '../src/random/random.ts'
import { createOnnxRuntime } from '../src/runtime/onnx/onnx.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { measureLoss } from '../src/train/evaluator.ts'
import { trainingDefaults, type Choice, type TrainingOptions } from '../src/train/options.ts'
import { SharedSteps } from '../src/train/shared-steps.ts'
import { splitExamples } from '../src/train/split.ts'
import { openTraining, type TrainerParts } from '../src/train/trainer.ts'
import { readCorpus } from './e2e/corpus.ts'
import { describeMachine } from './machine.ts'

const sizes = [50, 500]
const seeds = [1, 2]
/** Sentences of the development set on which all are compared; no training sees them. */
const comparedMax = 200
/** Points of the grid that are trained together. */
const togetherMax = 4
const resultsFile = 'docs/choice/results.json'
const pageFile = 'docs/choice.md'

const direct = [0.02, 0.06, 0.17, 0.5]
const network = [2.5e-4, 7.5e-4, 2.3e-3, 7e-3]
/** Four rates of each form; the rest is usual. */
const grid: readonly Partial<TrainingOptions>[] = [
  ...direct.map((learningRate) => ({ learningRate, reparametrization: 0 })),
  ...network.map((learningRate) => ({ learningRate, reparametrization: 512 })),
].map((point) => ({ ...point, prefixLength: 10, initialization: 'text:table to text' }))

interface Outcome {
  readonly loss: number
  readonly steps: number
  readonly seconds: number
  readonly options: Partial<TrainingOptions>
}
interface Row {
  readonly examples: number
  readonly seed: number
  readonly chosen: Outcome & { readonly tried: number }
  readonly grid: readonly Outcome[]
}

/** Goes on where it was stopped. `say` hears what is done. */
export async function measureChoice(
  model: string,
  data: string,
  threads: number,
  say: (line: string) => void,
): Promise<string> {
  const { train, dev } = await readCorpus(data)
  const compared = dev.pairs.slice(0, comparedMax)
  const parts = {
    runtime: createOnnxRuntime({ threads }),
    model: await openModel(model),
    tokenizer: await openTokenizer(model),
  }
  const rows = await readRows()
  await writeFile(pageFile, pageOf(rows))
  for (const examples of sizes) {
    for (const seed of seeds) {
      if (rows.some((row) => row.examples === examples && row.seed === seed)) continue
      rows.push(await measureRow(parts, sampleOf(train, examples, seed), compared, seed, say))
      await mkdir(path.dirname(resultsFile), { recursive: true })
      await writeFile(resultsFile, `${JSON.stringify(rows, null, 1)}\n`)
      await writeFile(pageFile, pageOf(rows))
    }
  }
  return pageFile
}

async function readRows(): Promise<Row[]> {
  try {
    return JSON.parse(await readFile(resultsFile, 'utf8')) as Row[]
  } catch {
    return []
  }
}

function sampleOf(train: readonly Example[], count: number, seed: number): readonly Example[] {
  const copy = [...train]
  new Random(seed).shuffle(copy)
  return copy.slice(0, count)
}

async function measureRow(
  parts: TrainerParts,
  examples: readonly Example[],
  compared: readonly Example[],
  seed: number,
  say: (line: string) => void,
): Promise<Row> {
  const data = { ...splitExamples(examples, 0.1, seed), template: defaultTemplate, from: null }
  const finish = async (options: Partial<TrainingOptions>, steps: SharedSteps | null) => {
    const startMs = performance.now()
    const shared = { ...parts, ...(steps !== null && { steps }) }
    const run = await openTraining(shared, data, { ...trainingDefaults, seed, ...options }, null)
    for await (const _ of run.steps(new AbortController().signal));
    const loss = (await measureLoss(parts, await run.prefix(), compared)) as number
    const { step, used } = run
    await run.dispose()
    say(`${examples.length} examples, seed ${seed}, ${JSON.stringify(options)}: ${loss.toFixed(4)} after ${step} steps`)
    return { loss, steps: step, seconds: (performance.now() - startMs) / 1000, options, used }
  }
  const { used, ...chosen } = await finish({}, null)
  const { chosen: options, tried } = used['choice'] as Choice
  const outcomes: Outcome[] = []
  for (let from = 0; from < grid.length; from += togetherMax) {
    const steps = new SharedSteps(parts.runtime, parts.model)
    const points = grid.slice(from, from + togetherMax).map((point) => finish(point, steps))
    for (const { used: _, ...outcome } of await Promise.all(points)) outcomes.push(outcome)
  }
  return { examples: examples.length, seed, chosen: { ...chosen, options, tried: tried.length }, grid: outcomes }
}

function pageOf(rows: readonly Row[]): string {
  const { cpu, processors } = describeMachine()
  const lines = rows.map(({ examples, seed, chosen, grid: points }) => {
    const best = points.toSorted((a, b) => a.loss - b.loss)[0] as Outcome
    const { prefixLength, learningRate, reparametrization, initialization } = chosen.options
    const form = (width: unknown): string => (width === 0 ? 'direct' : `network of ${String(width)}`)
    const rate = (value: unknown): string => Number(value).toPrecision(2)
    return `| ${[
      examples,
      seed,
      `${form(reparametrization)}, rate ${rate(learningRate)}, P ${prefixLength}, from ${String(initialization).replace(/^text:/, '')}`,
      chosen.loss.toFixed(4),
      `${form(best.options.reparametrization)}, rate ${rate(best.options.learningRate)}`,
      best.loss.toFixed(4),
      `${(100 * (chosen.loss / best.loss - 1)).toFixed(1)} %`,
    ].join(' | ')} |`
  })
  const all = rows.flatMap(({ examples, seed, grid: points }) =>
    points.map(({ loss, steps, options: { learningRate, reparametrization } }) => [
      examples,
      seed,
      reparametrization === 0 ? 'direct' : 'network',
      learningRate,
      steps,
      loss.toFixed(4),
    ]),
  )
  return `# Options that are chosen

Written by \`npm run bench -- choose --data FOLDER\`, with the default model on ${cpu}, ${processors} processors. With nothing given but examples, length, rate, form
and beginning of a prefix are chosen by trying ([0010](decisions/0010-choosing-by-trying.md)); the number of steps follows from that of the examples. Beside it a
grid of eight points: four rates of a prefix trained directly and four of one made by a network of 512, P 10, started from "table to text", the same number
of steps, the same held-out tenth and early stop. Loss per target token in nats on ${comparedMax} sentences of the development set that none has seen.

| examples | seed | chosen | its loss | best of the grid | its loss | difference |
|---|---|---|---|---|---|---|
${lines.join('\n')}

## The grid

| examples | seed | form | rate | steps until the stop | loss |
|---|---|---|---|---|---|
${all.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}
`
}

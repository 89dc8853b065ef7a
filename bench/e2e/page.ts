// Writes docs/e2e.md and its figures from the results, with what was not measured named.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { drawFigure } from './charts.ts'
import { figuresOf } from './figures.ts'
import { ablationExamples, basePlan, embeddingRate, smallPlans } from './plans.ts'
import { pointsOf, type Point, type Points } from './points.ts'
import { readResults, type Result } from './results.ts'
import { pointTable, textTable, wholeTable } from './tables.ts'

const page = 'docs/e2e.md'
const folder = 'docs/e2e'
/** What a person reads in the figures; everything else on the page is made from them. */
const notesFile = `${folder}/notes.md`

/** Names of the files written. */
export async function writePage(): Promise<string[]> {
  const files = Object.entries(await renderPage())
  for (const [file, text] of files) {
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, text)
  }
  return files.map(([file]) => file)
}

/** Texts by the names of their files. */
export async function renderPage(): Promise<Readonly<Record<string, string>>> {
  const results = readResults()
  const points = pointsOf(results)
  const bare = results.find(({ id }) => id === 'bare')
  const figures = Object.entries(figuresOf(points, bare?.sample?.['bleu'] ?? null))
  const drawn = figures
    .filter(([, { panels }]) => panels[0].values.length > 1)
    .map(([name, figure]) => [`${folder}/${name}.svg`, drawFigure(figure)])
  const notes = await readFile(notesFile, 'utf8')
  return { [page]: pageOf(results, points, notes.trim()), ...Object.fromEntries(drawn) }
}

function pageOf(results: readonly Result[], points: Points, notes: string): string {
  return `# E2E at scale

Written by \`npm run bench -- e2e --data FOLDER\` from [e2e/results.json](e2e/results.json); the reading of the figures is from
[e2e/notes.md](e2e/notes.md). The data are the E2E NLG data set (Novikova, Dušek, Rieser 2017, CC BY-SA 4.0) in the files of the prefix-tuning paper:
42,061 pairs to train on, 547 records to develop and 630 to test, with several sentences each. The frozen model is the one that comes
with the project (6 layers, width 192, 3.5 M parameters), which has seen no text of E2E.

${notes}

${wholeSection(results)}

## How many examples

${measured('curve', points.curve, 'examples')}

## How long a prefix

${measured('length', points.length, 'virtual tokens')}

## Prefix, infix, embeddings

${measured('variants', points.variants, 'what is trained, and its length')}

The engine serves no infix; its texts come from the same engine, with prompt and infix together as a prefix of each record
(\`bench/e2e/infix.ts\`).

## What it starts from

${measured('starts', points.starts, 'initialisation')}

${methodSection(results)}
`
}

/** Figure and table; one point alone is nothing to compare. */
function measured(name: string, points: readonly Point[], column: string): string {
  if (points.length < 2) return 'Not run yet.'
  return `![BLEU and test loss by ${column}](e2e/${name}.svg)\n\n${pointTable(points, column)}`
}

function wholeSection(results: readonly Result[]): string {
  const full = results.find(({ id }) => id === 'full')
  const bare = results.find(({ id }) => id === 'bare')
  const run =
    full === undefined
      ? ''
      : `
${full.steps} steps of ${String(full.training['batchSize'])}, the least held-out loss at step ${full.bestStep}; test loss ${full.testLoss?.toFixed(3)} nats per token on the sample.
`
  return `## All of the data

${wholeTable(full, bare)}
${run}
METEOR and ROUGE-L in per cent. Ours is METEOR without synonyms and paraphrases, 1 to 3 % lower than the official program's; decoding is greedy,
the paper's a beam of 5. The paper's rows are context, not rivals: another model, a hundred times as large.

${full === undefined ? '' : textTable(full)}`
}

function methodSection(results: readonly Result[]): string {
  const { cpu, processors, node, onnxruntime } = (results.at(-1) as Result).machine
  const { reparametrization, learningRate, batchSize, seed, steps } = basePlan.options
  return `## What was run

- Every training: a prefix of 10 unless said otherwise, network of ${reparametrization}, AdamW, rate ${learningRate} falling in a line to 0, gradients clipped to
  norm 1, loss summed over the tokens of an example, batches of ${batchSize}, start from “table to text”, seed ${seed}. Input embeddings have no network and a rate
  of their own, ${embeddingRate}, the best of five in a look of 45 steps. Nothing was tuned for each length or start: they are compared at equal rates and steps.
- All of the data: one pass in batches of 20. The curve: nested samples; 100 steps up to 100 examples, doubled with each fivefold of
  examples. Ablations: ${ablationExamples} examples, ${steps} steps.
- The prefix is that of the step with the least loss on development examples, 30 % of the number trained on and at most 64, measured 12 times;
  a training ends after four times without a better one. Test figures were not looked at for any choice.
- Test loss is that of 256 pairs, the scores under figures are those of 100 records, the same for every prefix; all texts greedy, at
  most 120 tokens. One seed each: a BLEU point or two between two rows mean nothing.
- ${missingOf(results)}

Taken on ${cpu}, ${processors} processors, which other work used too; Node ${node}, onnxruntime-node ${onnxruntime}.`
}

function missingOf(results: readonly Result[]): string {
  const planned = ['full', 'bare', ...smallPlans().map(({ id }) => id)]
  const missing = planned.filter((id) => !results.some((result) => result.id === id))
  if (missing.length === 0) return 'Everything that `bench/e2e/plans.ts` plans was run.'
  return `Planned in \`bench/e2e/plans.ts\` and not run for want of time: ${missing.map((id) => `\`${id}\``).join(', ')}.`
}

// The tables of the study in Markdown.
import type { Point } from './points.ts'
import type { Result, Scores } from './results.ts'

interface Metric {
  readonly key: string
  readonly name: string
  readonly digits: number
  readonly factor: number
}

/** The five of the E2E challenge, as papers print them. */
const metrics: readonly Metric[] = [
  { key: 'bleu', name: 'BLEU', digits: 1, factor: 1 },
  { key: 'nist', name: 'NIST', digits: 2, factor: 1 },
  { key: 'meteor', name: 'METEOR', digits: 1, factor: 100 },
  { key: 'rougeL', name: 'ROUGE-L', digits: 1, factor: 100 },
  { key: 'cider', name: 'CIDEr', digits: 2, factor: 1 },
]
const metricNames = metrics.map(({ name }) => name)

type Row = readonly (string | number | null | undefined)[]

function table(head: readonly string[], rows: readonly Row[]): string {
  const line = (cells: Row): string => `| ${cells.map((cell) => cell ?? '–').join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function scoreCells(scores: Scores | undefined): Row {
  return metrics.map(({ key, digits, factor }) => {
    const score = scores?.[key]
    return score === undefined ? null : (score * factor).toFixed(digits)
  })
}

/** One line for each point; `name` is that of the first column. */
export function pointTable(points: readonly Point[], name: string): string {
  const rows = points.map(({ label, result: { steps, bestStep, testLoss, sample, training } }) => {
    const planned = Number(training['steps'])
    const done = steps < planned ? `${steps} of ${planned}` : steps
    return [label, done, bestStep, testLoss?.toFixed(3), ...scoreCells(sample)]
  })
  return table([name, 'steps', 'best step', 'test loss', ...metricNames], rows)
}

/** Li & Liang 2021, table 1: GPT-2 medium with a prefix, and fine-tuned. */
const paperRows: readonly Row[] = [
  ['paper, GPT-2 medium, prefix', 'test, 630 records', 69.7, 8.81, 46.1, 71.4, 2.49],
  ['paper, GPT-2 medium, fine-tuned', 'test, 630 records', 68.2, 8.62, 46.2, '71.0', 2.47],
]

/** Whole sets: the prefix, the model without it, and the paper's. */
export function wholeTable(full: Result | undefined, bare: Result | undefined): string {
  const of = (result: Result | undefined, name: string): Row[] =>
    (['test', 'dev'] as const).flatMap((split) => {
      const scores = result?.[split]
      return scores === undefined ? [] : [[name, `${split}, ${scores['records']} records`, ...scoreCells(scores)]]
    })
  const rows = [...of(full, 'default model, prefix'), ...of(bare, 'default model, bare'), ...paperRows]
  return table(['', 'records', ...metricNames], rows)
}

export function textTable({ texts = [] }: Result): string {
  const rows = texts.map((text) => [text.input, text.reference, text.output].map((cell) => cell.replaceAll('|', ',')))
  return table(['record', 'a reference', 'with the prefix'], rows)
}

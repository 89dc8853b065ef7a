// The four figures of the study, each with one message.
import { bleuMeasure, lossMeasure, type Figure, type Panel } from './charts.ts'
import { ablationExamples, basePlan } from './plans.ts'
import type { Point, Points } from './points.ts'

/** By the name of their file; `bareBleu` is that of the model without a prefix on the same records. */
export function figuresOf(points: Points, bareBleu: number | null): Readonly<Record<string, Figure>> {
  const { curve, length, variants, starts } = points
  const { steps, batchSize } = basePlan.options
  const equal = `${ablationExamples} examples, ${steps} steps of ${batchSize}, one seed`
  const mark = bareBleu === null ? {} : { mark: { label: 'bare model', value: bareBleu } }
  const [curveBleu, curveLoss] = panelsOf(curve)
  const examples = curve.map(({ result }) => result.examples)
  const lengths = length.map(({ result }) => Number(result.training['prefixLength']))
  return {
    curve: {
      title: 'How much a prefix learns from how many examples',
      subtitle: 'Prefix of 10 virtual tokens; steps grow with the examples, see the table; one seed',
      panels: [{ ...curveBleu, ...mark }, curveLoss],
      x: { kind: 'line', name: 'examples trained on', values: examples },
    },
    length: {
      title: 'How long a prefix should be',
      subtitle: equal,
      panels: panelsOf(length),
      x: { kind: 'line', name: 'prefix length, virtual tokens', values: lengths },
    },
    variants: {
      title: 'Prefix, infix and input embeddings alone, of 1 and of 10 virtual tokens',
      subtitle: equal,
      panels: panelsOf(variants),
      x: { kind: 'bar', names: variants.map(({ label }) => label) },
    },
    starts: {
      title: 'What a prefix starts from: random numbers, or the keys and values of words',
      subtitle: `${equal}; prefix of 10 virtual tokens`,
      panels: panelsOf(starts),
      x: { kind: 'bar', names: starts.map(({ label }) => label) },
    },
  }
}

function panelsOf(points: readonly Point[]): [Panel, Panel] {
  return [
    { measure: bleuMeasure, values: points.map(({ result }) => result.sample?.['bleu'] ?? null) },
    { measure: lossMeasure, values: points.map(({ result }) => result.testLoss) },
  ]
}

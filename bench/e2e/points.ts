// What each part of the study compares: results by name, in the order in which tables and figures have them.
import { basePlan, startingWords } from './plans.ts'
import type { Result } from './results.ts'

export interface Point {
  readonly label: string
  readonly result: Result
}

export interface Points {
  /** Fewest examples first. */
  readonly curve: readonly Point[]
  readonly length: readonly Point[]
  readonly variants: readonly Point[]
  readonly starts: readonly Point[]
}

/** Those that have been measured. */
export function pointsOf(results: readonly Result[]): Points {
  const known = (labels: Readonly<Record<string, string>>): Point[] =>
    Object.entries(labels).flatMap(([id, label]) => {
      const result = results.find((each) => each.id === id)
      return result === undefined ? [] : [{ label, result }]
    })
  const ofCurve = results.filter(({ id, study }) => study === 'curve' || study === 'full' || id === basePlan.id)
  return {
    curve: ofCurve
      .toSorted((a, b) => a.examples - b.examples)
      .map((result) => ({ label: result.examples.toLocaleString('en-US'), result })),
    length: known(Object.fromEntries([1, 2, 5, 10, 20, 40].map((length) => [`length/${length}`, String(length)]))),
    variants: known({
      'length/1': 'prefix 1',
      'infix/1': 'infix 1',
      'embedding/1': 'embeddings 1',
      [basePlan.id]: 'prefix 10',
      'infix/10': 'infix 10',
      'embedding/10': 'embeddings 10',
    }),
    starts: known({
      'start/random': 'random',
      ...Object.fromEntries(startingWords.map((words) => [`start/${words}`, `“${words}”`])),
      [basePlan.id]: '“table to text”',
    }),
  }
}

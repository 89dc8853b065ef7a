// Corpus BLEU-4 (Papineni et al. 2002) with any number of references per sentence, figure for figure as sacrebleu 2.6.
import { countNgrams, countShared, mostOfEach } from './ngrams.ts'
import { pairTexts } from './pairs.ts'
import { tokenize13a } from './tokens-13a.ts'

export interface BleuOptions {
  readonly lowercase?: boolean
}

export interface Bleu {
  /** 0 to 100. */
  readonly score: number
  /** Of 1-grams to 4-grams, in per cent, smoothed. */
  readonly precisions: readonly number[]
  readonly brevityPenalty: number
  /** In tokens, all hypotheses together. */
  readonly hypothesisLength: number
  /** In tokens: of each sentence the reference that is nearest in length to its hypothesis. */
  readonly referenceLength: number
}

const ordersMax = 4

/**
 * `references[i]` are those of `hypotheses[i]`: one or more, not the same number everywhere. An empty reference counts
 * as one of length 0. Smoothing is sacrebleu's default, `exp`: of the orders without a match, the first counts as
 * half a match, the next as a quarter, and so on (Chen & Cherry 2014, method 3). Throws RangeError as `pairTexts`.
 */
export function corpusBleu(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { lowercase = false }: BleuOptions = {},
): Bleu {
  const split = (text: string): string[] => tokenize13a(lowercase ? text.toLowerCase() : text)
  const matches = Array.from({ length: ordersMax }, () => 0)
  const totals = Array.from({ length: ordersMax }, () => 0)
  let hypothesisLength = 0
  let referenceLength = 0
  for (const { hypothesis: tokens, references: others } of pairTexts(hypotheses, references, split)) {
    hypothesisLength += tokens.length
    referenceLength += nearestLength(tokens.length, others)
    for (let n = 1; n <= ordersMax; n++) {
      // A match is clipped: an n-gram counts as often as it stands in the reference that has it most often.
      const limits = mostOfEach(others.map((other) => countNgrams(other, n)))
      matches[n - 1] = (matches[n - 1] as number) + countShared(countNgrams(tokens, n), limits)
      totals[n - 1] = (totals[n - 1] as number) + Math.max(0, tokens.length - n + 1)
    }
  }
  const precisions = smooth(matches, totals)
  const brevityPenalty = penalty(hypothesisLength, referenceLength)
  const meanLog = precisions.reduce((sum, precision) => sum + Math.log(precision), 0) / ordersMax
  return { score: brevityPenalty * Math.exp(meanLog), precisions, brevityPenalty, hypothesisLength, referenceLength }
}

/** Of two that are equally near, the shorter. */
function nearestLength(length: number, references: readonly (readonly string[])[]): number {
  const lengths = references.map((reference) => reference.length)
  return lengths.reduce((best, other) => {
    const [nearer, farther] = [Math.abs(other - length), Math.abs(best - length)]
    return nearer < farther || (nearer === farther && other < best) ? other : best
  })
}

function smooth(matches: readonly number[], totals: readonly number[]): number[] {
  if (matches.every((count) => count === 0)) return totals.map(() => 0)
  let halvings = 1
  return matches.map((count, order) => {
    const total = totals[order] as number
    if (total === 0) return 0
    if (count > 0) return (100 * count) / total
    halvings *= 2
    return 100 / (halvings * total)
  })
}

function penalty(hypothesisLength: number, referenceLength: number): number {
  if (hypothesisLength >= referenceLength) return 1
  return hypothesisLength === 0 ? 0 : Math.exp(1 - referenceLength / hypothesisLength)
}

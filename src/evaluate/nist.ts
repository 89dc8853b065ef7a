// NIST (Doddington 2002): n-gram matches weighed by how much each tells, figure for figure as the E2E challenge's Python scorer.
import { countNgrams, mostOfEach, type Counts } from './ngrams.ts'
import { mean, pairTexts } from './pairs.ts'
import { tokenize13a } from './tokens-13a.ts'

const ordersMax = 5

/** Such that a set of two thirds of its references' length loses half of its score. */
const beta = -Math.log(0.5) / Math.log(1.5) ** 2

/**
 * In bits, from 0; on E2E's test set 8 to 9. With matches m clipped as BLEU's, for each n = 1 to 5
 *
 *   sum over n-grams of m·info  /  number of n-grams in the hypotheses,   info(w1…wn) = log2(#(w1…wn-1) / #(w1…wn)),
 *
 * the five summed (Doddington 2002, equations 2 and 3). # counts in all references of the set, so there is no score
 * of one sentence. Text is lower-cased and split by mteval-v13a. There are two official scripts: this is
 * the Python one of tuetschek/e2e-metrics (`measure_scores.py -p`). mteval-v13a.pl counts empty references where
 * sentences have fewer than others and comes out up to 0.04 higher. Different from both, a hypothesis shorter
 * than n words has no n-grams, not a negative number of them, and an empty text no word, not one. Throws RangeError as `pairTexts`.
 */
export function corpusNist(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  const pairs = pairTexts(hypotheses, references, (text) => tokenize13a(text.toLowerCase()))
  const hypothesisLength = pairs.reduce((sum, { hypothesis }) => sum + hypothesis.length, 0)
  const referenceLength = pairs.reduce((sum, { references: others }) => sum + mean(others.map((o) => o.length)), 0)
  // The empty n-gram stands before every word.
  let shorter: Counts = new Map([['', sum(pairs.flatMap(({ references: others }) => others.map((o) => o.length)))]])
  let score = 0
  for (let n = 1; n <= ordersMax; n++) {
    const inReferences = new Map<string, number>()
    const information = (ngram: string): number =>
      Math.log2((shorter.get(withoutLast(ngram)) as number) / (inReferences.get(ngram) as number))
    const matches: [ngram: string, count: number][] = []
    let total = 0
    for (const { hypothesis, references: others } of pairs) {
      const counts = others.map((other) => countNgrams(other, n))
      for (const one of counts) {
        for (const [ngram, count] of one) inReferences.set(ngram, (inReferences.get(ngram) ?? 0) + count)
      }
      const limits = mostOfEach(counts)
      for (const [ngram, count] of countNgrams(hypothesis, n)) {
        const clipped = Math.min(count, limits.get(ngram) ?? 0)
        if (clipped > 0) matches.push([ngram, clipped])
      }
      total += Math.max(0, hypothesis.length - n + 1)
    }
    if (total > 0) score += sum(matches.map(([ngram, count]) => count * information(ngram))) / total
    shorter = inReferences
  }
  return score * penalty(hypothesisLength, referenceLength)
}

function withoutLast(ngram: string): string {
  return ngram.slice(0, Math.max(0, ngram.lastIndexOf(' ')))
}

/** exp(-β·ln²(hypotheses / references)) if the hypotheses are the shorter ones (Doddington 2002, equation 3). */
function penalty(hypothesisLength: number, referenceLength: number): number {
  if (hypothesisLength >= referenceLength) return 1
  return Math.exp(-beta * Math.log(hypothesisLength / referenceLength) ** 2)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

// CIDEr-D (Vedantam et al. 2015): n-grams shared with the references, weighed by rarity, figure for figure as COCO's caption evaluation.
import { countNgrams, type Counts } from './ngrams.ts'
import { mean, pairTexts } from './pairs.ts'
import { tokenizeCoco } from './tokens-coco.ts'

const ordersMax = 4

/** Standard deviation of the penalty on a difference in length, in words. */
const sigma = 6

interface Vector {
  /** Of n-grams of each order: tf·idf by n-gram. */
  readonly weights: readonly Counts[]
  /** Euclidean, one for each order. */
  readonly norms: readonly number[]
  /** Number of word pairs; the reference implementation takes this for the length. */
  readonly pairs: number
}

/**
 * 0 to 10 (COCO's unit; tables that show per cent multiply by 100 once more). Of each order n = 1 to 4 the cosine of
 * the tf·idf vectors of hypothesis and reference, the hypothesis' weights clipped to the reference's, times
 * exp(-Δ²/2σ²), Δ the difference in length; averaged over orders, references and sentences, times 10 (Vedantam et
 * al., equation 4). idf = ln(sentences / sentences with the n-gram in a reference): it is that of this set, so there
 * is no score of one sentence, and a set of one scores 0. Throws RangeError as `pairTexts`.
 */
export function corpusCider(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  const pairs = pairTexts(hypotheses, references, countOrders)
  const sentencesWith = new Map<string, number>()
  for (const { references: others } of pairs) {
    const seen = new Set(others.flatMap((orders) => orders.flatMap((counts) => [...counts.keys()])))
    for (const ngram of seen) sentencesWith.set(ngram, (sentencesWith.get(ngram) ?? 0) + 1)
  }
  const idfs = new Map([...sentencesWith].map(([ngram, count]) => [ngram, Math.log(pairs.length / count)]))
  const unseen = Math.log(pairs.length)
  const idf = (ngram: string): number => idfs.get(ngram) ?? unseen
  const scores = pairs.map(({ hypothesis, references: others }) => {
    const vector = weigh(hypothesis, idf)
    return mean(others.map((other) => similarity(vector, weigh(other, idf))))
  })
  return 10 * mean(scores)
}

function countOrders(text: string): Counts[] {
  const tokens = tokenizeCoco(text)
  return Array.from({ length: ordersMax }, (_, i) => countNgrams(tokens, i + 1))
}

function weigh(orders: readonly Counts[], idf: (ngram: string) => number): Vector {
  const norms: number[] = []
  const weights = orders.map((counts) => {
    const vector = new Map<string, number>()
    let squares = 0
    for (const [ngram, count] of counts) {
      const weight = count * idf(ngram)
      vector.set(ngram, weight)
      squares += weight ** 2
    }
    norms.push(Math.sqrt(squares))
    return vector
  })
  return { weights, norms, pairs: sum((orders[1] as Counts).values()) }
}

/** 0 to 1. */
function similarity(hypothesis: Vector, reference: Vector): number {
  const cosines = hypothesis.weights.map((weights, order) => {
    const norm = (hypothesis.norms[order] as number) * (reference.norms[order] as number)
    if (norm === 0) return 0
    let dot = 0
    for (const [ngram, weight] of weights) {
      const other = (reference.weights[order] as Counts).get(ngram) ?? 0
      dot += Math.min(weight, other) * other
    }
    return dot / norm
  })
  return mean(cosines) * Math.exp(-((hypothesis.pairs - reference.pairs) ** 2) / (2 * sigma ** 2))
}

function sum(values: Iterable<number>): number {
  let total = 0
  for (const value of values) total += value
  return total
}

// ROUGE-L (Lin 2004) as the E2E challenge reports it, figure for figure as COCO's caption evaluation: not that of rouge-score.
import { commonSubsequence } from './common-subsequence.ts'
import { mean, pairTexts } from './pairs.ts'
import { tokenizeCoco } from './tokens-coco.ts'

/** Recall counts this much more than precision. */
const beta = 1.2

/**
 * 0 to 1, the mean over the sentences. Precision and recall are each the best over the references, so they may come
 * from different ones; then (1 + β²)·P·R / (R + β²·P) (Lin 2004, equation 4). Words are not stemmed. Throws
 * RangeError as `pairTexts`.
 */
export function cocoRougeL(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  const scores = pairTexts(hypotheses, references, tokenizeCoco).map(({ hypothesis, references: others }) => {
    const found = others.map((other) => ({ shared: commonSubsequence(hypothesis, other), length: other.length }))
    const precision = Math.max(...found.map(({ shared }) => shared / Math.max(hypothesis.length, 1)))
    const recall = Math.max(...found.map(({ shared, length }) => shared / Math.max(length, 1)))
    return precision === 0 ? 0 : ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision)
  })
  return mean(scores)
}

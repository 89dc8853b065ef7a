// ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), figure for figure as rouge-score 0.1.2.
import { commonSubsequence } from './common-subsequence.ts'
import { countNgrams, countShared } from './ngrams.ts'
import { mean, pairTexts } from './pairs.ts'
import { stem } from './porter.ts'

export interface RougeOptions {
  /** Words of more than three letters are compared by their stems. */
  readonly stemming?: boolean
}

/** 0 to 1, each the mean over the sentences. */
export interface Rouge {
  readonly rouge1: RougeScore
  readonly rouge2: RougeScore
  readonly rougeL: RougeScore
}

export interface RougeScore {
  readonly precision: number
  readonly recall: number
  /** 2·P·R / (P + R) of each sentence, then averaged. */
  readonly fmeasure: number
}

/**
 * Of several references the one with the best F-measure counts, for each of the three by itself (`score_multi`).
 * A text is lower-cased, and everything but a-z and 0-9 parts words. ROUGE-L takes the text as one sentence. Throws
 * RangeError as `pairTexts`.
 */
export function corpusRouge(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { stemming = true }: RougeOptions = {},
): Rouge {
  const stems = new Map<string, string>()
  const reduce = (word: string): string => {
    if (!stemming || word.length <= 3) return word
    const known = stems.get(word) ?? stem(word)
    stems.set(word, known)
    return known
  }
  const split = (text: string): string[] => (text.toLowerCase().match(/[a-z0-9]+/gu) ?? []).map(reduce)
  const pairs = pairTexts(hypotheses, references, split)
  const scored = (compare: Compare): RougeScore =>
    average(pairs.map(({ hypothesis, references: others }) => best(others.map((other) => compare(hypothesis, other)))))
  return { rouge1: scored(ofNgrams(1)), rouge2: scored(ofNgrams(2)), rougeL: scored(ofSubsequence) }
}

type Compare = (hypothesis: readonly string[], reference: readonly string[]) => RougeScore

function ofNgrams(n: number): Compare {
  return (hypothesis, reference) => {
    const shared = countShared(countNgrams(reference, n), countNgrams(hypothesis, n))
    return score(shared, hypothesis.length - n + 1, reference.length - n + 1)
  }
}

const ofSubsequence: Compare = (hypothesis, reference) =>
  score(commonSubsequence(hypothesis, reference), hypothesis.length, reference.length)

function score(shared: number, inHypothesis: number, inReference: number): RougeScore {
  const precision = shared / Math.max(inHypothesis, 1)
  const recall = shared / Math.max(inReference, 1)
  const fmeasure = shared === 0 ? 0 : (2 * precision * recall) / (precision + recall)
  return { precision, recall, fmeasure }
}

/** Of equal ones the first. */
function best(scores: readonly RougeScore[]): RougeScore {
  return scores.reduce((most, other) => (other.fmeasure > most.fmeasure ? other : most))
}

function average(scores: readonly RougeScore[]): RougeScore {
  return {
    precision: mean(scores.map(({ precision }) => precision)),
    recall: mean(scores.map(({ recall }) => recall)),
    fmeasure: mean(scores.map(({ fmeasure }) => fmeasure)),
  }
}

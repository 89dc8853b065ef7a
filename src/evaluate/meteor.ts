// METEOR 1.5 (Denkowski & Lavie 2014) with matches of equal words and of equal stems, for English.
import { stem } from 'porter2'
import { align, type Word } from './alignment.ts'
import { pairTexts } from './pairs.ts'

import { tokenizeCoco } from './tokens-coco.ts'

// The parameters of METEOR 1.5 for English, task "rank".
/** Weight of precision in the harmonic mean, against 1 - alpha of recall. */
const alpha = 0.85
/** Exponent and factor of the penalty on fragments. */
const beta = 0.2
const gamma = 0.6
/** Weight of content words, against 1 - delta of function words. */
const delta = 0.75
/** A match of stems alone counts less than one of words. */
const stemWeight = 0.6

/** English words whose relative frequency in WMT's monolingual news of 2011 is above 1/1000, as METEOR 1.5 counts them. */
const functionWords: ReadonlySet<string> = new Set(
  (
    'the of to and a in that for is on it with was as said at he by be from have has are his but an this not i will ' +
    'they who their had we which were been more or s its would about new one after you also up when there than all ' +
    "out her people she year two can if last first over other into some what so no time years could -lrb- -rrb- ' 't $"
  ).split(' '),
)

/** What METEOR sums over the sentences of a set; words are weighed by delta or 1 - delta. */
interface Statistics {
  readonly hypothesisWeight: number
  readonly referenceWeight: number
  readonly hypothesisMatched: number
  readonly referenceMatched: number
  /** Not weighed. */
  readonly matches: number
  /** Runs of matches; 0 where the whole of both texts is one run. */
  readonly chunks: number
}

/**
 * 0 to 1. Of several references the best one counts, and the statistics of the sentences are summed before
 *
 *   F = P·R / (α·P + (1-α)·R),   score = F·(1 - γ·(chunks / matches)^β)      (Denkowski & Lavie 2014, section 2.2)
 *
 * with matches of stems weighed by 0.6 and content words by δ, function words by 1 - δ. The same as `meteor-1.5.jar
 * -norm -m 'exact stem'` on COCO's words, to 0.2 %, as its search for the alignment is less thorough. Different from the official figure, which is higher by a hundredth or two
 * of itself on E2E: no matches of synonyms (WordNet's) and of paraphrases (a table of 60 MB). Throws RangeError as
 * `pairTexts`.
 */
export function corpusMeteor(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  const stems = new Map<string, string>()
  const split = (text: string): Word[] =>
    tokenizeMeteor(text).map((word) => {
      const known = stems.get(word) ?? stem(word)
      stems.set(word, known)
      return { text: word, stem: known }
    })
  const best = pairTexts(hypotheses, references, split).map(({ hypothesis, references: others }) =>
    others
      .map((other) => compare(hypothesis, other))
      .reduce((most, other) => (score(other) > score(most) ? other : most)),
  )
  return score(best.reduce(add))
}

/** COCO's words, with those that have hyphens or apostrophes taken apart: "family", "friendly", "n", "'t". */
function tokenizeMeteor(text: string): string[] {
  return tokenizeCoco(text).flatMap((word) => {
    if (/^-...-$/u.test(word)) return [word]
    const apart = word.replace(/(?<=\p{L})'(?=\p{L})/gu, " '").replace(/^'(?=.)/u, "' ")
    return apart.split(/[- ]/u).filter((part) => part !== '')
  })
}

function compare(hypothesis: readonly Word[], reference: readonly Word[]): Statistics {
  const matches = align(hypothesis, reference)
  let hypothesisMatched = 0
  let referenceMatched = 0
  let chunks = 0
  matches.forEach((match, i) => {
    const [a, b] = [hypothesis[match.hypothesis] as Word, reference[match.reference] as Word]
    const kind = a.text === b.text ? 1 : stemWeight
    hypothesisMatched += kind * weight(a)
    referenceMatched += kind * weight(b)
    const last = matches[i - 1]
    if (last?.hypothesis !== match.hypothesis - 1 || last.reference !== match.reference - 1) chunks++
  })
  const complete = matches.length === hypothesis.length && matches.length === reference.length
  return {
    hypothesisWeight: sum(hypothesis.map(weight)),
    referenceWeight: sum(reference.map(weight)),
    hypothesisMatched,
    referenceMatched,
    matches: matches.length,
    chunks: complete && chunks === 1 ? 0 : chunks,
  }
}

function weight(word: Word): number {
  return functionWords.has(word.text) ? 1 - delta : delta
}

function score({ matches, chunks, ...weights }: Statistics): number {
  if (matches === 0) return 0
  const precision = weights.hypothesisMatched / weights.hypothesisWeight
  const recall = weights.referenceMatched / weights.referenceWeight
  const harmonic = (precision * recall) / (alpha * precision + (1 - alpha) * recall)
  return harmonic * (1 - gamma * (chunks / matches) ** beta)
}

function add(a: Statistics, b: Statistics): Statistics {
  return {
    hypothesisWeight: a.hypothesisWeight + b.hypothesisWeight,
    referenceWeight: a.referenceWeight + b.referenceWeight,
    hypothesisMatched: a.hypothesisMatched + b.hypothesisMatched,
    referenceMatched: a.referenceMatched + b.referenceMatched,
    matches: a.matches + b.matches,
    chunks: a.chunks + b.chunks,
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

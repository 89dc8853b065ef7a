// chrF (Popović 2015): F-score of character n-grams, figure for figure as sacrebleu 2.6.
import { countNgrams, countShared, type Counts } from './ngrams.ts'
import { pairTexts } from './pairs.ts'
import { splitWords } from './words.ts'

export interface ChrfOptions {
  readonly lowercase?: boolean
  /** Longest n-grams of words that count beside those of characters; 2 makes it chrF++ (Popović 2017). */
  readonly wordOrder?: number
}

const characterOrder = 6

/** Recall counts beta times as much as precision. */
const beta = 2

/** For one order of n-grams: how many the hypothesis has, how many the reference, how many they share. */
interface Tally {
  readonly hypothesis: number
  readonly reference: number
  readonly shared: number
}

/**
 * 0 to 100. Of several references the one with the best F-score counts, sentence by sentence, and the numbers of
 * n-grams are added up over the set before precision and recall are taken. White space is no character here.
 * Orders that a text is too short for are left out of the mean. Throws RangeError as `pairTexts`.
 */
export function corpusChrf(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { lowercase = false, wordOrder = 0 }: ChrfOptions = {},
): number {
  const count = (text: string): Counts[] => countOrders(lowercase ? text.toLowerCase() : text, wordOrder)
  let total: readonly Tally[] = Array.from({ length: characterOrder + wordOrder }, () => nothing)
  for (const { hypothesis, references: others } of pairTexts(hypotheses, references, count)) {
    let best: readonly Tally[] = []
    let bestScore = -1
    for (const other of others) {
      const tallies = other.map((counts, order) => tally(hypothesis[order] as Counts, counts))
      const score = fScore(tallies)
      if (score > bestScore) [best, bestScore] = [tallies, score]
    }
    total = total.map((sum, order) => add(sum, best[order] as Tally))
  }
  return 100 * fScore(total)
}

const nothing: Tally = { hypothesis: 0, reference: 0, shared: 0 }

function add(a: Tally, b: Tally): Tally {
  return {
    hypothesis: a.hypothesis + b.hypothesis,
    reference: a.reference + b.reference,
    shared: a.shared + b.shared,
  }
}

function countOrders(text: string, wordOrder: number): Counts[] {
  const words = splitWords(text)
  const characters = Array.from(words.join(''))
  const ofCharacters = Array.from({ length: characterOrder }, (_, i) => countNgrams(characters, i + 1, ''))
  if (wordOrder === 0) return ofCharacters
  const apart = words.flatMap(splitPunctuation)
  return [...ofCharacters, ...Array.from({ length: wordOrder }, (_, i) => countNgrams(apart, i + 1))]
}

/** One mark is taken off a word's end, or else off its start: "(hi)" becomes "(hi" and ")". */
function splitPunctuation(word: string): string[] {
  const characters = Array.from(word)
  if (characters.length === 1) return [word]
  const [first, last] = [characters[0] as string, characters.at(-1) as string]
  if (isPunctuation(last)) return [word.slice(0, -1), last]
  return isPunctuation(first) ? [first, word.slice(1)] : [word]
}

function isPunctuation(character: string): boolean {
  return /^[!-/:-@[-`{-~]$/u.test(character)
}

/** The hypothesis' n-grams count only where the reference has any of that order. */
function tally(hypothesis: Counts, reference: Counts): Tally {
  return {
    hypothesis: reference.size > 0 ? size(hypothesis) : 0,
    reference: size(reference),
    shared: countShared(hypothesis, reference),
  }
}

function size(counts: Counts): number {
  let sum = 0
  for (const count of counts.values()) sum += count
  return sum
}

/** (1 + β²)·P·R / (β²·P + R) of precision and recall averaged over the orders that both sides have; 0 to 1. */
function fScore(tallies: readonly Tally[]): number {
  const orders = tallies.filter(({ hypothesis, reference }) => hypothesis > 0 && reference > 0)
  if (orders.length === 0) return 0
  const precision = orders.reduce((sum, order) => sum + order.shared / order.hypothesis, 0) / orders.length
  const recall = orders.reduce((sum, order) => sum + order.shared / order.reference, 0) / orders.length
  if (precision + recall === 0) return 0
  return ((1 + beta ** 2) * precision * recall) / (beta ** 2 * precision + recall)
}

// Corpus BLEU-4 (Papineni et al. 2002) with any number of references per sentence, figure for figure as sacrebleu 2.6.

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
 * half a match, the next as a quarter, and so on (Chen & Cherry 2014, method 3).
 */
export function corpusBleu(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { lowercase = false }: BleuOptions = {},
): Bleu {
  if (hypotheses.length !== references.length) {
    throw new RangeError(`${hypotheses.length} hypotheses, but references for ${references.length}`)
  }
  const split = (text: string): string[] => tokenize13a(lowercase ? text.toLowerCase() : text)
  const matches = Array.from({ length: ordersMax }, () => 0)
  const totals = Array.from({ length: ordersMax }, () => 0)
  let hypothesisLength = 0
  let referenceLength = 0
  hypotheses.forEach((hypothesis, i) => {
    const tokens = split(hypothesis)
    const others = (references[i] as readonly string[]).map(split)
    if (others.length === 0) throw new RangeError(`hypothesis ${i} has no reference`)
    hypothesisLength += tokens.length
    referenceLength += nearestLength(tokens.length, others)
    for (let n = 1; n <= ordersMax; n++) {
      matches[n - 1] = (matches[n - 1] as number) + countMatches(tokens, others, n)
      totals[n - 1] = (totals[n - 1] as number) + Math.max(0, tokens.length - n + 1)
    }
  })
  const precisions = smooth(matches, totals)
  const brevityPenalty = penalty(hypothesisLength, referenceLength)
  const meanLog = precisions.reduce((sum, precision) => sum + Math.log(precision), 0) / ordersMax
  return { score: brevityPenalty * Math.exp(meanLog), precisions, brevityPenalty, hypothesisLength, referenceLength }
}

/** What Python's str.split takes for white space, the four ASCII separators included. */
const whiteSpace = new RegExp(`[\\p{White_Space}${String.fromCodePoint(0x1c, 0x1d, 0x1e, 0x1f)}]+`, 'u')

/** The tokens of mteval-v13a, WMT's usual ones: punctuation apart, but kept inside numbers and words like "don't". */
export function tokenize13a(text: string): string[] {
  // Trimmed first: a hyphen and a line break at the very end are no hyphenation.
  const plain = trimEnd(text)
    .replaceAll('<skipped>', '')
    .replaceAll('-\n', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
  return ` ${plain} `
    .replace(/([{-~[-` -&(-+:-@/])/gu, ' $1 ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/gu, '$1 $2 ')
    .split(whiteSpace)
    .filter((token) => token !== '')
}

function trimEnd(text: string): string {
  let end = text.length
  while (end > 0 && whiteSpace.test(text.charAt(end - 1))) end--
  return text.slice(0, end)
}

/** n-grams with how often each occurs; tokens hold no space, so a space joins them without loss. */
function countNgrams(tokens: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (let i = 0; i + n <= tokens.length; i++) {
    const ngram = tokens.slice(i, i + n).join(' ')
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1)
  }
  return counts
}

/** An n-gram matches as often as it stands in the reference that has it most often. */
function countMatches(tokens: readonly string[], references: readonly (readonly string[])[], n: number): number {
  const limits = references.map((reference) => countNgrams(reference, n))
  let sum = 0
  for (const [ngram, count] of countNgrams(tokens, n)) {
    sum += Math.min(count, Math.max(...limits.map((limit) => limit.get(ngram) ?? 0)))
  }
  return sum
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

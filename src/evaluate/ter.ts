// Translation edit rate (Snover et al. 2006): edits and shifts to the nearest reference, figure for figure as sacrebleu 2.6.
import type { WordIds } from './edit-distance.ts'
import { mean, pairTexts } from './pairs.ts'
import { countEdits } from './shifts.ts'
import { splitWords } from './words.ts'

export interface TerOptions {
  /** Tercom's normalization: punctuation and "'s" stand apart, as words of their own. */
  readonly normalized?: boolean
}

/**
 * In per cent, from 0 for equal texts; above 100 if there are more edits than words in the references. An edit is to
 * insert, delete or replace one word, or to shift a run of them. Edits to the nearest reference of each sentence,
 * summed, by the mean length of its references, summed. Case does not count; punctuation does. Throws RangeError as
 * `pairTexts`.
 */
export function corpusTer(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  { normalized = false }: TerOptions = {},
): number {
  const ids = new Map<string, number>()
  const idOf = (word: string): number => {
    const id = ids.get(word) ?? ids.size
    ids.set(word, id)
    return id
  }
  const split = (text: string): WordIds =>
    splitWords(normalized ? normalize(text.toLowerCase()) : text.toLowerCase()).map(idOf)
  let edits = 0
  let length = 0
  for (const { hypothesis, references: others } of pairTexts(hypotheses, references, split)) {
    edits += fewestEdits(hypothesis, others)
    length += mean(others.map((other) => other.length))
  }
  if (length > 0) return (100 * edits) / length
  return edits > 0 ? 100 : 0
}

/** A reference that needs more edits than another already did, whatever may shift, is not searched for shifts. */
function fewestEdits(hypothesis: WordIds, references: readonly WordIds[]): number {
  const bounds = references.map((reference) => ({ reference, bound: editsAtLeast(hypothesis, reference) }))
  let fewest = Infinity
  for (const { reference, bound } of bounds.sort((a, b) => a.bound - b.bound)) {
    if (bound < fewest) fewest = Math.min(fewest, countEdits(hypothesis, reference))
  }
  return fewest
}

/** Every word that has no equal on the other side costs an edit; an edit sees to one word on each side at most. */
function editsAtLeast(a: WordIds, b: WordIds): number {
  const left = new Map<number, number>()
  for (const word of b) left.set(word, (left.get(word) ?? 0) + 1)
  let shared = 0
  for (const word of a) {
    const count = left.get(word) ?? 0
    if (count > 0) shared++
    left.set(word, count - 1)
  }
  return Math.max(a.length, b.length) - shared
}

function normalize(text: string): string {
  const plain = text
    .replaceAll('\n-', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
  return ` ${plain} `
    .replace(/([{-~[-` -&(-+:-@/])/gu, ' $1 ')
    .replaceAll("'s ", " 's ")
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/gu, '$1 $2 ')
}

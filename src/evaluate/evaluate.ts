// Texts against references: the figures by which a prefix is judged.
import { corpusBleu } from './bleu.ts'

/** Of a whole corpus, by name; each says in its own file what its figures mean. */
export type TextScores = Readonly<Record<string, number>>

/** `references[i]` are those of `hypotheses[i]`: one or more. Case does not count. */
export function scoreTexts(hypotheses: readonly string[], references: readonly (readonly string[])[]): TextScores {
  return { bleu: corpusBleu(hypotheses, references, { lowercase: true }).score }
}

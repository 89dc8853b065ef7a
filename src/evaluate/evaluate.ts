// All metrics of generated text at once, over a set of hypotheses with their references.
import { corpusBleu } from './bleu.ts'
import { corpusChrf } from './chrf.ts'
import { corpusCider } from './cider.ts'
import { corpusMeteor } from './meteor.ts'
import { corpusNist } from './nist.ts'
import { cocoRougeL } from './rouge-l-coco.ts'
import { corpusRouge } from './rouge.ts'
import { corpusTer } from './ter.ts'

export interface TextScores {
  /** 0 to 100: sacrebleu 2.6, 13a tokens. */
  readonly bleu: number
  /** In bits, from 0: the Python scorer of the E2E challenge. */
  readonly nist: number
  /** 0 to 1: METEOR 1.5 with equal words and stems, without its synonyms and paraphrases. */
  readonly meteor: number
  /** 0 to 1: F-measure of rouge-score 0.1.2 with stemming, of each sentence against its best reference. */
  readonly rouge1: number
  /** 0 to 1, as `rouge1`. */
  readonly rouge2: number
  /** 0 to 1: ROUGE-L of COCO's caption evaluation, which is that of the E2E challenge; rouge-score's is in rouge.ts. */
  readonly rougeL: number
  /** 0 to 10: CIDEr of COCO's caption evaluation. */
  readonly cider: number
  /** In per cent, less is better, can exceed 100: TER of sacrebleu 2.6. */
  readonly ter: number
  /** 0 to 100: chrF2 of sacrebleu 2.6. */
  readonly chrf: number
}

/**
 * `references[i]` are those of `hypotheses[i]`: one or more, not the same number everywhere. Case does not count in
 * any score, as in the official evaluation of the E2E challenge. Throws RangeError if a hypothesis has no reference,
 * if the two lists differ in length, or if there is nothing at all.
 */
export function scoreTexts(hypotheses: readonly string[], references: readonly (readonly string[])[]): TextScores {
  const { rouge1, rouge2 } = corpusRouge(hypotheses, references)
  return {
    bleu: corpusBleu(hypotheses, references, { lowercase: true }).score,
    nist: corpusNist(hypotheses, references),
    meteor: corpusMeteor(hypotheses, references),
    rouge1: rouge1.fmeasure,
    rouge2: rouge2.fmeasure,
    rougeL: cocoRougeL(hypotheses, references),
    cider: corpusCider(hypotheses, references),
    ter: corpusTer(hypotheses, references),
    chrf: corpusChrf(hypotheses, references, { lowercase: true }),
  }
}

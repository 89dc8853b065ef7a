// The tokens of mteval-v13a, which BLEU and NIST count: those of WMT and of the E2E challenge.
import { splitWords, whiteSpace } from './words.ts'

/** Punctuation stands apart, but is kept inside numbers and words like "don't". As sacrebleu's tokenizer `13a`. */
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
  const apart = ` ${plain} `
    .replace(/([{-~[-` -&(-+:-@/])/gu, ' $1 ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/gu, '$1 $2 ')
  return splitWords(apart)
}

function trimEnd(text: string): string {
  let end = text.length
  while (end > 0 && whiteSpace.test(text.charAt(end - 1))) end--
  return text.slice(0, end)
}

// The words that COCO's caption evaluation compares in ROUGE-L, CIDEr and METEOR: Penn Treebank tokens without punctuation.

/** "can't" is "ca" and "n't"; these words have no apostrophe and are two nevertheless. */
const joined = /^(can)(not)$|^(gon|wan)(na)$|^(got)(ta)$|^(gim|lem)(me)$/u

/** What ends in a full stop that is no end of a sentence: single letters ("U.K."), titles, "etc." */
const abbreviation = String.raw`(?:\p{L}\.)+(?:\p{L}\.)|(?:mr|mrs|ms|dr|st|prof|jr|sr|etc|vs|inc|ltd|co|approx|dept|rev|gen|col|capt|lt|sgt|gov|sen|rep|blvd|ave|rd)\.(?!\p{L})`
/** A sign belongs to its number, but the hyphen of "20-25" to the word. */
const signed = String.raw`(?<![\p{L}\p{N}])-\d+(?:[.,:]\d+)*`
const word = String.raw`\d+\/\d+|(?:\d+(?:[.,:]\d+)+|\.\d+|[\p{L}\p{N}]+)(?:-[\p{L}\p{N}]+)*`

/** From special to general, as the first that fits wins. */
const tokens = new RegExp(
  [
    abbreviation,
    // Before a comma a full stop can only be that of an abbreviation.
    String.raw`\p{L}+\.(?=,)`,
    signed,
    // "don't" gives "do" and "n't", as "don" is followed by an apostrophe and a t.
    String.raw`\p{L}+(?=n['’]t(?!\p{L}))`,
    String.raw`n['’]t(?!\p{L})`,
    String.raw`(?<!\p{L})[dol]['’]\p{L}+`,
    String.raw`['’](?:s|m|d|re|ve|ll|em)(?!\p{L})`,
    word,
    String.raw`[^\s]`,
  ].join('|'),
  'gu',
)

/** Of the marks that stand alone only these count; the others are left out. Brackets have names in the Penn Treebank. */
const marks: ReadonlyMap<string, string> = new Map([
  ['(', '-lrb-'],
  [')', '-rrb-'],
  ['[', '-lsb-'],
  [']', '-rsb-'],
  ['{', '-lcb-'],
  ['}', '-rcb-'],
  ['£', '#'],
  ['€', '$'],
])
const leftOut = /^[-.?!,:;'"`’‘“”…–—]$/u

/**
 * In lower case. A small part of Stanford CoreNLP 3.4.1's PTBTokenizer, which pycocoevalcap runs: what English
 * sentences without mark-up need. Not here: addresses of the web, emoticons, its long list of abbreviations.
 */
export function tokenizeCoco(text: string): string[] {
  const found: string[] = []
  for (const [token] of text.toLowerCase().matchAll(tokens)) {
    if (leftOut.test(token)) continue
    const parts = joined.exec(token)
    if (parts) found.push(...parts.slice(1).filter((part) => part !== undefined))
    else found.push(marks.get(token) ?? token.replace('’', "'"))
  }
  return found
}

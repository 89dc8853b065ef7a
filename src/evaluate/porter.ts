// English stems by Porter's algorithm (Program 14(3), 1980) with the exceptions that NLTK adds, which rouge-score relies on.

type Condition = (stem: string) => boolean
/** If the word ends so: what comes in its stead, and what must hold of the rest (always, if nothing is said). */
type Rule = readonly [suffix: string, replacement: string, condition?: Condition]

/** Words whose stem is not that of the rules (NLTK's list). */
const irregular: ReadonlyMap<string, string> = new Map([
  ...['sky', 'news', 'howe', 'proceed', 'exceed', 'succeed'].map((word) => [word, word] as const),
  ...['inning', 'outing', 'canning'].flatMap((word) => [word, `${word}s`].map((form) => [form, word] as const)),
  ...['die', 'lie', 'tie'].map((word) => [word.replace('ie', 'ying'), word] as const),
  ['skies', 'sky'],
])

/** `word` is in lower case. NLTK's PorterStemmer in its default mode, NLTK_EXTENSIONS, gives the same. */
export function stem(word: string): string {
  const known = irregular.get(word)
  if (known !== undefined) return known
  if (word.length <= 2) return word
  const singular = plural(word)
  return finalL(finalE(rule(rule(step2(finalY(participle(singular))), step3), step4)))
}

// The measure m of a stem is how often a vowel is followed by a consonant in it: [C](VC)^m[V].
const measure = (text: string): number => {
  const kinds = consonants(text)
  return kinds.filter((consonant, i) => consonant && i > 0 && !kinds[i - 1]).length
}
const positive: Condition = (text) => measure(text) > 0
const aboveOne: Condition = (text) => measure(text) > 1

/** Of each letter whether it is a consonant: no a, e, i, o, u, and no y behind a consonant. */
function consonants(text: string): boolean[] {
  const kinds: boolean[] = []
  for (let i = 0; i < text.length; i++) {
    const letter = text.charAt(i)
    kinds.push(letter === 'y' ? i === 0 || !kinds[i - 1] : !'aeiou'.includes(letter))
  }
  return kinds
}

/** The paper's *o: ends as "hop" does, consonant, vowel, consonant other than w, x, y. NLTK adds: or is like "us". */
function endsShort(text: string): boolean {
  const [before, vowel, last] = [undefined, undefined, undefined, ...consonants(text)].slice(-3)
  if (vowel !== false || last !== true) return false
  return text.length === 2 || (before === true && !/[wxy]$/u.test(text))
}

/** The first rule whose suffix fits decides, also if its condition then does not hold. */
function rule(word: string, rules: readonly Rule[]): string {
  for (const [suffix, replacement, condition] of rules) {
    if (!word.endsWith(suffix)) continue
    const rest = word.slice(0, word.length - suffix.length)
    return condition === undefined || condition(rest) ? rest + replacement : word
  }
  return word
}

/** Step 1a. NLTK adds: "dies" to "die", but "flies" to "fli". */
function plural(word: string): string {
  if (word.length === 4 && word.endsWith('ies')) return word.slice(0, -1)
  return rule(word, [
    ['sses', 'ss'],
    ['ies', 'i'],
    ['ss', 'ss'],
    ['s', ''],
  ])
}

/** Step 1b. NLTK adds: "died" to "die", "spied" to "spi". */
function participle(word: string): string {
  if (word.endsWith('ied')) return word.slice(0, word.length === 4 ? -1 : -2)
  if (word.endsWith('eed')) return rule(word, [['eed', 'ee', positive]])
  const rest = word.replace(/(?:ed|ing)$/u, '')
  if (rest === word || !consonants(rest).includes(false)) return word
  if (/(?:at|bl|iz)$/u.test(rest)) return `${rest}e`
  if (/(.)\1$/u.test(rest) && consonants(rest).at(-1) === true) return /[lsz]$/u.test(rest) ? rest : rest.slice(0, -1)
  return measure(rest) === 1 && endsShort(rest) ? `${rest}e` : rest
}

/** Step 1c as NLTK has it: y behind a consonant that is not the word's first letter, so "enjoy" and "by" stay. */
function finalY(word: string): string {
  return rule(word, [['y', 'i', (rest) => rest.length > 1 && consonants(rest).at(-1) === true]])
}

const step2Rules: readonly Rule[] = [
  ['ational', 'ate', positive],
  ['tional', 'tion', positive],
  ['enci', 'ence', positive],
  ['anci', 'ance', positive],
  ['izer', 'ize', positive],
  ['bli', 'ble', positive],
  ['alli', 'al', positive],
  ['entli', 'ent', positive],
  ['eli', 'e', positive],
  ['ousli', 'ous', positive],
  ['ization', 'ize', positive],
  ['ation', 'ate', positive],
  ['ator', 'ate', positive],
  ['alism', 'al', positive],
  ['iveness', 'ive', positive],
  ['fulness', 'ful', positive],
  ['ousness', 'ous', positive],
  ['aliti', 'al', positive],
  ['iviti', 'ive', positive],
  ['biliti', 'ble', positive],
  ['fulli', 'ful', positive],
  // The l counts to the stem, so that "geologi" is shortened as "archaeologi" is.
  ['logi', 'log', (rest) => positive(`${rest}l`)],
]

/** Where "alli" becomes "al" the step is taken again, on what is left. */
function step2(word: string): string {
  const again = word.endsWith('alli') && positive(word.slice(0, -4))
  return again ? step2(word.slice(0, -2)) : rule(word, step2Rules)
}

const step3: readonly Rule[] = [
  ['icate', 'ic', positive],
  ['ative', '', positive],
  ['alize', 'al', positive],
  ['iciti', 'ic', positive],
  ['ical', 'ic', positive],
  ['ful', '', positive],
  ['ness', '', positive],
]

const step4: readonly Rule[] = [
  ...['al', 'ance', 'ence', 'er', 'ic', 'able', 'ible', 'ant', 'ement', 'ment', 'ent'].map(
    (suffix): Rule => [suffix, '', aboveOne],
  ),
  ['ion', '', (rest) => aboveOne(rest) && /[st]$/u.test(rest)],
  ...['ou', 'ism', 'ate', 'iti', 'ous', 'ive', 'ize'].map((suffix): Rule => [suffix, '', aboveOne]),
]

/** Step 5a. */
function finalE(word: string): string {
  return rule(word, [['e', '', (rest) => aboveOne(rest) || (measure(rest) === 1 && !endsShort(rest))]])
}

/** Step 5b. */
function finalL(word: string): string {
  return rule(word, [['ll', 'l', (rest) => aboveOne(`${rest}l`)]])
}

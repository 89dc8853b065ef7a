// n-grams and how often each occurs, which most metrics of generated text count.

/** n-grams, each with its number of occurrences. */
export type Counts = ReadonlyMap<string, number>

/** `separator` must stand in no token, so that it joins them without loss: a space between words, nothing between characters. */
export function countNgrams(tokens: readonly string[], n: number, separator = ' '): Map<string, number> {
  const counts = new Map<string, number>()
  for (let i = 0; i + n <= tokens.length; i++) {
    let ngram = tokens[i] as string
    for (let k = 1; k < n; k++) ngram += separator + (tokens[i + k] as string)
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1)
  }
  return counts
}

/** Of each n-gram the number in the text that has it most often (Papineni et al. 2002, section 2.1.1). */
export function mostOfEach(texts: readonly Counts[]): Map<string, number> {
  const most = new Map<string, number>()
  for (const counts of texts) {
    for (const [ngram, count] of counts) most.set(ngram, Math.max(count, most.get(ngram) ?? 0))
  }
  return most
}

/** How many n-grams two texts share, each as often as it stands in both. */
export function countShared(a: Counts, b: Counts): number {
  let sum = 0
  for (const [ngram, count] of a) sum += Math.min(count, b.get(ngram) ?? 0)
  return sum
}

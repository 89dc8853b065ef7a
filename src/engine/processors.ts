// What a request forbids or makes less likely, done to a row of logits in place: each touches few of its numbers.

/**
 * Divides the logits of tokens already seen, as in CTRL (Keskar et al. 2019, section 4.1); negative ones are multiplied.
 * Each once, however often it was seen.
 */
export function penalizeRepetition(logits: Float32Array, penalty: number, seen: Iterable<number>): void {
  for (const token of new Set(seen)) {
    const logit = logits[token] as number
    logits[token] = logit < 0 ? logit * penalty : logit / penalty
  }
}

/**
 * Takes `presence` from the logit of every token that was made before, and `frequency` as many times as it was made:
 * μ[j] - c[j] · frequency - (c[j] > 0) · presence, as OpenAI's reference defines it.
 */
export function penalizePresence(
  logits: Float32Array,
  { presence, frequency }: { readonly presence: number; readonly frequency: number },
  made: readonly number[],
): void {
  const counts = new Map<number, number>()
  for (const token of made) counts.set(token, (counts.get(token) ?? 0) + 1)
  for (const [token, count] of counts) logits[token] = (logits[token] as number) - count * frequency - presence
}

/** Adds to the logits of single tokens. */
export function addBias(logits: Float32Array, bias: ReadonlyMap<number, number>): void {
  for (const [token, value] of bias) logits[token] = (logits[token] as number) + value
}

/** Forbids every token that would make n tokens in a row which stand in `history` already (Paulus et al. 2017, section 2.5). */
export function banRepeatedNgrams(logits: Float32Array, n: number, history: readonly number[]): void {
  const begun = history.length - (n - 1) // Where the n-gram begins that the next token completes.
  for (let start = 0; start + n <= history.length; start++) {
    let same = 0
    while (same < n - 1 && history[start + same] === history[begun + same]) same++
    if (same === n - 1) logits[history[start + n - 1] as number] = -Infinity
  }
}

/** Forbids the last token of every sequence of `banned` whose others are what `history` ends with. */
export function banSequences(
  logits: Float32Array,
  banned: readonly (readonly number[])[],
  history: readonly number[],
): void {
  for (const sequence of banned) {
    const others = sequence.length - 1
    if (others > history.length) continue
    let same = 0
    while (same < others && sequence[same] === history[history.length - others + same]) same++
    if (same === others) logits[sequence[others] as number] = -Infinity
  }
}

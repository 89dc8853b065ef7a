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
  for (const [token, count] of countsOf(made)) logits[token] = (logits[token] as number) - count * frequency - presence
}

/** How often each token was made. */
export function countsOf(made: readonly number[]): ReadonlyMap<number, number> {
  const counts = new Map<number, number>()
  for (const token of made) counts.set(token, (counts.get(token) ?? 0) + 1)
  return counts
}

/** Adds to the logits of single tokens. */
export function addBias(logits: Float32Array, bias: ReadonlyMap<number, number>): void {
  for (const [token, value] of bias) logits[token] = (logits[token] as number) + value
}

/** Every token that would make n tokens in a row which stand in `history` already (Paulus et al. 2017, section 2.5); none for n = 0. */
export function completedNgrams(n: number, history: readonly number[]): number[] {
  const completing: number[] = []
  if (n === 0) return completing
  const begun = history.length - (n - 1) // Where the n-gram begins that the next token completes.
  for (let start = 0; start + n <= history.length; start++) {
    let same = 0
    while (same < n - 1 && history[start + same] === history[begun + same]) same++
    if (same === n - 1) completing.push(history[start + n - 1] as number)
  }
  return completing
}

/** The last token of every sequence of `banned` whose others are what `history` ends with. */
export function completedSequences(banned: readonly (readonly number[])[], history: readonly number[]): number[] {
  const completing: number[] = []
  for (const sequence of banned) {
    const others = sequence.length - 1
    if (others > history.length) continue
    let same = 0
    while (same < others && sequence[same] === history[history.length - others + same]) same++
    if (same === others) completing.push(sequence[others] as number)
  }
  return completing
}

/** These tokens cannot come. */
export function forbid(logits: Float32Array, tokens: readonly number[]): void {
  for (const token of tokens) logits[token] = -Infinity
}

/** Nothing else may come; its own logit is 0, whatever it was. */
export function forceToken(logits: Float32Array, token: number): void {
  logits.fill(-Infinity)
  logits[token] = 0
}

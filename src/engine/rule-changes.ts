// What the rules of a request do to the logits of its next token: changes of single ones, or one token that is forced.
import { amountsPerToken, type LogitChanges } from '../runtime/logit-changes.ts'
import { forcedToken, type History, type LogitRules } from './logit-rules.ts'

/** Where each amount of a token stands in `LogitChanges`. */
const [added, penalty, taken] = [0, 1, 2] as const

/** Changes `logits` in place. What is forced has the last word, with a logit of 0, whatever it was. */
export function applyRules(rules: LogitRules, history: History, logits: Float32Array): void {
  const forced = forcedToken(rules, history)
  if (forced !== null) {
    logits.fill(-Infinity)
    logits[forced] = 0
    return
  }
  visitChanges(rules, history, (token, change, amount) => {
    const logit = logits[token] as number
    if (change === penalty) logits[token] = logit < 0 ? logit * amount : logit / amount
    else logits[token] = change === added ? logit + amount : logit - amount
  })
}

/** What `applyRules` does to a row before the next token where none is forced. */
export function changesOf(rules: LogitRules, history: History): LogitChanges {
  const places = new Map<number, number>()
  const amounts: number[] = []
  visitChanges(rules, history, (token, change, amount) => {
    const known = places.get(token)
    const place = known ?? places.size
    if (known === undefined) {
      places.set(token, place)
      amounts.push(0, 1, 0)
    }
    amounts[amountsPerToken * place + change] = amount
  })
  return { tokens: Int32Array.from(places.keys()), amounts: Float64Array.from(amounts) }
}

/**
 * What the rules do where no token is forced, in the order of `generate` in transformers 5: sequence bias, repetition penalty,
 * n-grams, bad words, minimum length. Presence and frequency, which it has not, stand where it puts a caller's own, behind those;
 * what is forbidden comes last here, as nothing brings it back. A token has one change of each kind at most; `taken` may come again, infinite.
 *
 * The repetition penalty is that of CTRL (Keskar et al. 2019, section 4.1), once for each token however often it was seen. Presence
 * and frequency are as OpenAI's reference defines them: μ[j] - c[j] · frequency - (c[j] > 0) · presence, where c counts tokens made.
 */
function visitChanges(
  rules: LogitRules,
  { prompt, output }: History,
  visit: (token: number, change: 0 | 1 | 2, amount: number) => void,
): void {
  const { repetitionPenalty, presencePenalty: presence, frequencyPenalty: frequency } = rules
  const all = [...prompt, ...output]
  for (const [token, bias] of rules.bias) visit(token, added, bias)
  if (repetitionPenalty !== 1) for (const token of new Set(all)) visit(token, penalty, repetitionPenalty)
  if (presence !== 0 || frequency !== 0)
    for (const [token, count] of countsOf(output)) visit(token, taken, count * frequency + presence)
  const forbidden = [...completedNgrams(rules.noRepeatNgramSize, all), ...completedSequences(rules.banned, all)]
  if (output.length < rules.minNewTokens) forbidden.push(rules.endOfText)
  for (const token of forbidden) visit(token, taken, Infinity)
}

/** How often each token was made. */
function countsOf(made: readonly number[]): ReadonlyMap<number, number> {
  const counts = new Map<number, number>()
  for (const token of made) counts.set(token, (counts.get(token) ?? 0) + 1)
  return counts
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

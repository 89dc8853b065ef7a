// The rules of a request as changes of single logits, for sessions that choose tokens where they compute.
import { amountsPerToken, type LogitChanges } from '../runtime/logit-changes.ts'
import { forcedToken, type History, type LogitRules } from './logit-rules.ts'
import { completedNgrams, completedSequences, countsOf } from './processors.ts'

/** What `applyRules` does to a row before the next token; null: it cannot be said of single logits, as all but one are forbidden. */
export function changesOf(rules: LogitRules, history: History): LogitChanges | null {
  if (forcedToken(rules, history) !== null) return null
  const { prompt, output } = history
  const all = [...prompt, ...output]
  const places = new Map<number, number>()
  const amounts: number[] = []
  const change = (token: number, which: 0 | 1 | 2, amount: number): void => {
    const known = places.get(token)
    const place = known ?? places.size
    if (known === undefined) {
      places.set(token, place)
      amounts.push(0, 1, 0)
    }
    amounts[amountsPerToken * place + which] = amount
  }
  for (const [token, bias] of rules.bias) change(token, 0, bias)
  if (rules.repetitionPenalty !== 1) for (const token of all) change(token, 1, rules.repetitionPenalty)
  const { presencePenalty: presence, frequencyPenalty: frequency } = rules
  if (presence !== 0 || frequency !== 0)
    for (const [token, count] of countsOf(output)) change(token, 2, count * frequency + presence)
  const forbidden = [...completedNgrams(rules.noRepeatNgramSize, all), ...completedSequences(rules.banned, all)]
  if (output.length < rules.minNewTokens) forbidden.push(rules.endOfText)
  for (const token of forbidden) change(token, 2, Infinity)
  return { tokens: Int32Array.from(places.keys()), amounts: Float64Array.from(amounts) }
}

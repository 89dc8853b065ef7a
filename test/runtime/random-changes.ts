// Changes of logits as rules make them, drawn at random, for devices that choose tokens.
import type { Random } from '../../src/random/random.ts'
import { changedLogit, type LogitChanges } from '../../src/runtime/logit-changes.ts'

/** Of `count` tokens: biases, penalties, and what is forbidden. */
export function randomChanges(random: Random, tokens: readonly number[]): LogitChanges {
  const amounts = tokens.flatMap(() => {
    const kind = random.below(4)
    return [kind === 0 ? 3 * random.normal() : 0, kind === 1 ? 1.3 : 1, [0, 0.7, 0.7, Infinity][kind] as number]
  })
  return { tokens: Int32Array.from(tokens), amounts: Float64Array.from(amounts) }
}

/** None of these may come. */
export function forbidding(tokens: readonly number[]): LogitChanges {
  return { tokens: Int32Array.from(tokens), amounts: Float64Array.from(tokens.flatMap(() => [0, 1, Infinity])) }
}

/** What they make of a row. */
export function afterChanges(row: Float32Array, changes: LogitChanges | undefined): Float32Array {
  const after = row.slice()
  changes?.tokens.forEach((token, i) => (after[token] = changedLogit(row[token] as number, changes, i)))
  return after
}

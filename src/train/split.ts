// Sets examples aside that a training never sees.
import { Random } from '../random/random.ts'
import type { Example } from './options.ts'

/** Holds out `share` of the examples, drawn by `seed`: at least one where the share is above 0, and never all. */
export function splitExamples(
  examples: readonly Example[],
  share: number,
  seed: number,
): { readonly examples: readonly Example[]; readonly heldOut: readonly Example[] } {
  const count = share === 0 ? 0 : Math.min(Math.max(1, Math.round(examples.length * share)), examples.length - 1)
  const order = examples.map((_, i) => i)
  new Random(seed).shuffle(order)
  const chosen = new Set(order.slice(0, count))
  return { examples: examples.filter((_, i) => !chosen.has(i)), heldOut: examples.filter((_, i) => chosen.has(i)) }
}

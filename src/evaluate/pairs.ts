// A set of hypotheses, each beside its references: the form in which all metrics take their texts.

export interface Pair<T> {
  readonly hypothesis: T
  /** One or more. */
  readonly references: readonly T[]
}

/**
 * `references[i]` are those of `hypotheses[i]`: one or more, not the same number everywhere. `split` makes of a text
 * what the metric compares, tokens for the most part. Throws RangeError if a hypothesis has no reference, if the two
 * lists differ in length, or if there is nothing at all.
 */
export function pairTexts<T>(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  split: (text: string) => T,
): Pair<T>[] {
  if (hypotheses.length !== references.length) {
    throw new RangeError(`${hypotheses.length} hypotheses, but references for ${references.length}`)
  }
  if (hypotheses.length === 0) throw new RangeError('there are no hypotheses to score')
  return hypotheses.map((hypothesis, i) => {
    const others = references[i] as readonly string[]
    if (others.length === 0) throw new RangeError(`hypothesis ${i} has no reference`)
    return { hypothesis: split(hypothesis), references: others.map(split) }
  })
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

// What rules do to some of a row's logits before its token is chosen, in numbers that whoever computes can follow.

/** Of single tokens, each named once; all other logits stay as they are. */
export interface LogitChanges {
  readonly tokens: Int32Array
  /** Of each token three numbers in turn: what is added, the penalty, and what is taken away; the last may be infinite. */
  readonly amounts: Float64Array
}

/** Numbers of a token in `amounts`. */
export const amountsPerToken = 3

/** The logit of `tokens[i]` after its change: a penalty divides what is positive, and multiplies what is negative. Rounded to float32 each time. */
export function changedLogit(logit: number, { amounts }: LogitChanges, i: number): number {
  const at = amountsPerToken * i
  const penalty = amounts[at + 1] as number
  const sum = Math.fround(logit + (amounts[at] as number))
  return Math.fround(Math.fround(sum < 0 ? sum * penalty : sum / penalty) - (amounts[at + 2] as number))
}

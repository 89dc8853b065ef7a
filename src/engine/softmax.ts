// Largest logits and sums of exponentials over some tokens; `row-passes.ts` has those over a whole row.

/** Steps of the table to one unit of the exponent. */
const stepsPerUnit = 256
/** Smaller than e^-45 of the largest weight is nothing: a whole vocabulary of such weights sums to less than 1e-14 of it. */
export const exponentMax = 45
const stepsMax = stepsPerUnit * exponentMax
/** e^(-i / stepsPerUnit), and 0 at the end. */
const powers = Float64Array.from({ length: stepsMax + 1 }, (_, i) => (i < stepsMax ? Math.exp(-i / stepsPerUnit) : 0))

/** The largest value from `start` to `end`; -Infinity where there is none. Four at a time, as each comparison waits for the one before. */
export function largestOf(values: Float32Array, start = 0, end = values.length): number {
  let a = -Infinity
  let b = -Infinity
  let c = -Infinity
  let d = -Infinity
  const whole = end - ((end - start) % 4)
  for (let i = start; i < whole; i += 4) {
    const p = values[i] as number
    const q = values[i + 1] as number
    const r = values[i + 2] as number
    const s = values[i + 3] as number
    if (p > a) a = p
    if (q > b) b = q
    if (r > c) c = r
    if (s > d) d = s
  }
  for (let i = whole; i < end; i++) if ((values[i] as number) > a) a = values[i] as number
  return Math.max(a, b, c, d)
}

/**
 * e^-x for x ≥ 0, to 1e-11 of its value, and 0 from `exponentMax` on: the power of the step below from a table, times the
 * series of the rest, which is below 1/256. Several times as fast as Math.exp, and the same on every machine.
 */
export function expOfMinus(x: number): number {
  const steps = Math.min(x * stepsPerUnit, stepsMax)
  const step = steps | 0
  const rest = (step - steps) * (1 / stepsPerUnit)
  return (powers[step] as number) * (1 + rest + rest * rest * (1 / 2 + rest * (1 / 6)))
}

/** Σ e^((logit - largest) · scale) over the values from `start` to `end`. */
export function weightOf(logits: Float32Array, largest: number, scale: number, start: number, end: number): number {
  // Two sums, as each addition waits for the one before.
  let even = 0
  let odd = 0
  let i = start
  for (; i + 1 < end; i += 2) {
    even += expOfMinus((largest - (logits[i] as number)) * scale)
    odd += expOfMinus((largest - (logits[i + 1] as number)) * scale)
  }
  return i < end ? even + odd + expOfMinus((largest - (logits[i] as number)) * scale) : even + odd
}

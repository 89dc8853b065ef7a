// The normal distribution in float64, which JavaScript's Math lacks.

/** Terms of the series, at most: at the largest |x| it is used for it has converged long before. */
const termsMax = 200
/** Beyond it the continued fraction converges fast, and the series loses digits. */
const seriesMax = 3

/** φ(x) */
export const normalDensity = (x: number): number => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI)

/** Φ(x), to some units of the last place: a series near 0, and a continued fraction for the tail. */
export function normalDistribution(x: number): number {
  if (Math.abs(x) > seriesMax) return x > 0 ? 1 - tail(x) : tail(-x)
  // Φ(x) = 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …) (Abramowitz & Stegun 1964, 26.2.11)
  let [term, sum] = [x, x]
  for (let n = 1; n < termsMax && Math.abs(term) > Number.EPSILON * Math.abs(sum); n++) {
    term *= (x * x) / (2 * n + 1)
    sum += term
  }
  return 0.5 + normalDensity(x) * sum
}

/** 1 − Φ(x) = φ(x)/(x + 1/(x + 2/(x + 3/(x + …)))) (26.2.14), from the inside out. */
function tail(x: number): number {
  let fraction = x
  for (let n = termsMax; n >= 1; n--) fraction = x + n / fraction
  return normalDensity(x) / fraction
}

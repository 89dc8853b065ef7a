// Finds environment variables that look like ours but are not: a typing mistake must not pass for a default.

/** Shorter names have too many innocent neighbours: HOME is two letters from HOST. */
const shortNameMax = 5
/** From this length on a name may differ in two places. */
const longNameMin = 8

/** The known name that `name` was probably meant to be. */
export function meantName(name: string, known: readonly string[]): string | null {
  if (known.includes(name)) return null
  for (const candidate of known) {
    if (name.toUpperCase() === candidate) return candidate
    if (candidate.length <= shortNameMax) continue
    const distanceMax = candidate.length >= longNameMin ? 2 : 1
    if (Math.abs(name.length - candidate.length) > distanceMax) continue
    if (editDistance(name.toUpperCase(), candidate) <= distanceMax) return candidate
  }
  return null
}

/** Letters left out, put in, replaced, or swapped with their neighbour (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  // rows[i][j] is the distance of the first i letters of a from the first j of b.
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...Array<number>(b.length).fill(0)])
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0
  for (let j = 0; j <= b.length; j++) (rows[0] as number[])[j] = j
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      let distance = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) distance = Math.min(distance, at(i - 2, j - 2) + 1)
      ;(rows[i] as number[])[j] = distance
    }
  }
  return at(a.length, b.length)
}

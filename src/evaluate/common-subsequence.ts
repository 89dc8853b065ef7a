// The longest common subsequence of two token lists, on which both ROUGE-L rest.

/** Its length: tokens in the same order in both, not necessarily side by side. Time is the product of the lengths. */
export function commonSubsequence(a: readonly string[], b: readonly string[]): number {
  // row[j]: of what has been read of a, and the first j of b.
  let row = new Uint32Array(b.length + 1)
  let above = new Uint32Array(b.length + 1)
  for (const token of a) {
    ;[row, above] = [above, row]
    for (let j = 1; j <= b.length; j++) {
      row[j] = token === b[j - 1] ? (above[j - 1] as number) + 1 : Math.max(above[j] as number, row[j - 1] as number)
    }
  }
  return row[b.length] as number
}

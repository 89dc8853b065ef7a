// The edit distance of two word lists in a band around the diagonal, with its path: what TER searches shifts by.

/** What becomes of the hypothesis on the way to the reference. */
export type Edit = 'keep' | 'replace' | 'delete' | 'insert'

/** A text as numbers of words: equal words have equal numbers. */
export type WordIds = readonly number[]

/** Of a hypothesis against a reference: row i has the costs of its first i words against each start of the reference. */
export interface EditTable {
  readonly hypothesis: WordIds
  readonly reference: WordIds
  /** [hypothesis + 1][reference + 1]; `unreached` outside of the band. */
  readonly rows: readonly Int32Array[]
  /** Two rows to compute other distances in. */
  readonly spare: readonly [Int32Array, Int32Array]
}

/** Half the width of the band, in words, as in Tercom. */
const bandMax = 25
const unreached = 2 ** 30

export function tabulate(hypothesis: WordIds, reference: WordIds): EditTable {
  const width = reference.length + 1
  const rows = [Int32Array.from({ length: width }, (_, j) => j)]
  hypothesis.forEach((word, i) => {
    const row = new Int32Array(width)
    fillRow(row, rows[i] as Int32Array, word, i + 1, hypothesis.length, reference)
    rows.push(row)
  })
  return { hypothesis, reference, rows, spare: [new Int32Array(width), new Int32Array(width)] }
}

export function distance({ rows, reference }: EditTable): number {
  return (rows.at(-1) as Int32Array)[reference.length] as number
}

/**
 * The distance of other words, as many as the table's and the same up to `first`, which are not computed again.
 * Undefined if it is above `limit`: then the rest is not computed either.
 */
export function distanceFrom(table: EditTable, words: WordIds, first: number, limit: number): number | undefined {
  const { rows, reference, spare } = table
  let above = rows[first] as Int32Array
  for (let i = first; i < words.length; i++) {
    const row = spare[(i % 2) as 0 | 1]
    const least = fillRow(row, above, words[i] as number, i + 1, words.length, reference)
    // No later row can have less than the least of this one.
    if (least > limit) return undefined
    above = row
  }
  const total = above[reference.length] as number
  return total > limit ? undefined : total
}

/** Row `i` from the one above; returns its least cost. The band follows the diagonal of the table, which is no square. */
function fillRow(
  row: Int32Array,
  above: Int32Array,
  word: number,
  i: number,
  length: number,
  reference: WordIds,
): number {
  const slope = reference.length / length
  const band = bandMax < slope / 2 ? Math.ceil(slope / 2 + bandMax) : bandMax
  const middle = Math.floor(i * slope)
  const end = i === length ? reference.length + 1 : Math.min(reference.length + 1, middle + band)
  row.fill(unreached)
  let least = unreached
  for (let j = Math.max(0, middle - band); j < end; j++) {
    let cost = (above[j] as number) + 1
    if (j > 0) {
      const diagonal = (above[j - 1] as number) + (word === reference[j - 1] ? 0 : 1)
      cost = Math.min(diagonal, cost, (row[j - 1] as number) + 1)
    }
    row[j] = Math.min(cost, unreached)
    least = Math.min(cost, least)
  }
  return least
}

/** The cheapest edits from start to end. Of equal ones keeping or replacing comes first, then deleting. */
export function cheapestEdits({ hypothesis, reference, rows }: EditTable): Edit[] {
  const edits: Edit[] = []
  let [i, j] = [hypothesis.length, reference.length]
  while (i > 0 || j > 0) {
    const cost = rows[i]?.[j] as number
    const same = i > 0 && j > 0 && hypothesis[i - 1] === reference[j - 1]
    if (i > 0 && j > 0 && cost === (rows[i - 1]?.[j - 1] as number) + (same ? 0 : 1)) {
      edits.push(same ? 'keep' : 'replace')
      i--
      j--
    } else if (i > 0 && cost === (rows[i - 1]?.[j] as number) + 1) {
      edits.push('delete')
      i--
    } else {
      edits.push('insert')
      j--
    }
  }
  return edits.reverse()
}

// What the figures of a bench must be, wherever they were taken.
import assert from 'node:assert/strict'
import type { Figures } from '../../bench/machine.ts'

/** Every number is one, and above 0: a kernel or a step that took no time was not there. */
export function assertFigures(figures: unknown, named: readonly string[]): void {
  const rows = [figures].flat() as Figures[]
  assert.ok(rows.length > 0, `figures of ${named}`)
  for (const row of rows) {
    for (const name of named) assert.ok(name in row, `${name} of ${JSON.stringify(row)}`)
    for (const [name, value] of Object.entries(row)) {
      const least = name === 'teraflops' || name.endsWith('Second') || name.endsWith('Limit') ? 0 : Number.MIN_VALUE
      assert.ok(typeof value === 'string' || value >= least, `${name} is ${value} of ${JSON.stringify(row)}`)
    }
  }
}

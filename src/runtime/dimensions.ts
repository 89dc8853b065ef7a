// Binds the named dimensions of a graph to the extents of what it is fed.
import assert from 'node:assert/strict'
import { inputsOf, joinedRows, type Graph } from '../graph/graph.ts'
import { bindShape } from '../graph/shape.ts'
import { sizeOf } from '../tensor/tensor.ts'
import type { Feeds } from './runtime.ts'

/** What each named dimension is in these feeds. Two inputs that disagree are a bug of the caller. `resident` inputs are fed by nobody. */
export function bindDimensions(
  graph: Graph,
  feeds: Feeds,
  resident: { has(input: string): boolean } = new Set(),
): Map<string, number> {
  const bindings = new Map<string, number>()
  for (const { attributes } of inputsOf(graph)) {
    if (resident.has(attributes.name)) continue
    const feed = feeds[attributes.name]
    assert.ok(feed !== undefined, `input ${attributes.name} is not fed`)
    assert.equal(
      feed.shape.length,
      attributes.shape.length,
      `input ${attributes.name}: [${feed.shape}] for [${attributes.shape}]`,
    )
    attributes.shape.forEach((dim, axis) => {
      const extent = feed.shape[axis] as number
      if (typeof dim === 'string' && !bindings.has(dim)) bindings.set(dim, extent)
      const expected = typeof dim === 'string' ? bindings.get(dim) : dim
      assert.equal(extent, expected, `input ${attributes.name}: [${feed.shape}] for [${attributes.shape}]`)
    })
  }
  for (const [rows, parts] of joinedRows(graph))
    bindings.set(
      rows,
      parts.reduce((sum, part) => sum + sizeOf(bindShape(part, bindings)), 0),
    )
  return bindings
}

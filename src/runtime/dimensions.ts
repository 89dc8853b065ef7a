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
  const { inputs, joined } = namesOf(graph)
  for (const { attributes } of inputs) {
    if (resident.has(attributes.name)) continue
    const feed = feeds[attributes.name]
    assert.ok(feed !== undefined, `input ${attributes.name} is not fed`)
    const agrees = attributes.shape.every((dim, axis) => {
      const extent = feed.shape[axis]
      if (extent === undefined || typeof dim === 'number') return extent === dim
      const bound = bindings.get(dim)
      if (bound === undefined) bindings.set(dim, extent)
      return bound === undefined || bound === extent
    })
    // Every step comes here with a hundred inputs: the message is made only where it is wanted.
    if (!agrees || feed.shape.length !== attributes.shape.length)
      assert.fail(`input ${attributes.name}: [${feed.shape}] for [${attributes.shape}]`)
  }
  for (const [rows, parts] of joined)
    bindings.set(
      rows,
      parts.reduce((sum, part) => sum + sizeOf(bindShape(part, bindings)), 0),
    )
  return bindings
}

type Names = { readonly inputs: ReturnType<typeof inputsOf>; readonly joined: ReturnType<typeof joinedRows> }

/** Where a graph's dimensions have their names: looked for once, and bound at every run. */
function namesOf(graph: Graph): Names {
  const known = namesOfGraphs.get(graph) ?? { inputs: inputsOf(graph), joined: joinedRows(graph) }
  namesOfGraphs.set(graph, known)
  return known
}
const namesOfGraphs = new WeakMap<Graph, Names>()

// The reference runtime: every op in plain TypeScript and float64. Slow, short, and the oracle of all tests.
import assert from 'node:assert/strict'
import { inputsOf, joinedRows, type Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import { bindShape } from '../../graph/shape.ts'
import { sizeOf, type Tensor } from '../../tensor/tensor.ts'
import type { Feeds } from '../runtime.ts'
import type { Dense } from './kernel.ts'
import { kernels } from './kernels.ts'

/** Frozen weights by name, in float64. */
export type ReferenceWeights = ReadonlyMap<string, Float64Array>

/** The outputs of `graph`, each computed from scratch. */
export function evaluate(graph: Graph, feeds: Feeds, weights: ReferenceWeights = new Map()): Record<string, Tensor> {
  const bindings = bindDimensions(graph, feeds)
  const results = new Map<Value, Dense>()

  for (const node of graph.nodes) {
    const shapes = node.outputs.map((output) => bindShape(output.shape, bindings))
    const outputs =
      leaf(node, shapes[0] as number[], feeds, weights) ??
      apply(
        node,
        node.inputs.map((i) => results.get(i) as Dense),
        shapes,
      )
    outputs.forEach((data, i) => results.set(node.outputs[i] as Value, { shape: shapes[i] as number[], data }))
  }
  return Object.fromEntries(
    Object.entries(graph.outputs).map(([name, value]) => [
      name,
      { dtype: value.dtype, ...(results.get(value) as Dense) },
    ]),
  )
}

/** What each named dimension is in these feeds. Two inputs that disagree are a bug of the caller. */
export function bindDimensions(graph: Graph, feeds: Feeds): Map<string, number> {
  const bindings = new Map<string, number>()
  for (const { attributes } of inputsOf(graph)) {
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

function leaf(node: AnyNode, shape: number[], feeds: Feeds, weights: ReferenceWeights): Dense['data'][] | null {
  if (node.op === 'constant') return [new Float64Array(sizeOf(shape)).fill(node.attributes.fill)]
  if (node.op === 'input') {
    const { data } = feeds[node.attributes.name] as Tensor
    return [data instanceof Int32Array ? data : Float64Array.from(data)]
  }
  if (node.op !== 'weight') return null
  const data = weights.get(node.attributes.name)
  assert.ok(data !== undefined, `no weight is named ${node.attributes.name}`)
  return [data]
}

function apply(node: AnyNode, inputs: readonly Dense[], shapes: readonly number[][]): Float64Array[] {
  const run = <Op extends OpName>(node: Node<Op>): Float64Array[] => kernels[node.op](node, inputs, shapes)
  return run(node as Node)
}

// The reference runtime: every op in plain TypeScript and float64. Slow, short, and the oracle of all tests.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import { bindShape } from '../../graph/shape.ts'
import { sizeOf, type Tensor } from '../../tensor/tensor.ts'
import { bindDimensions } from '../dimensions.ts'
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

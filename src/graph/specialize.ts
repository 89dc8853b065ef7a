// A graph with some of its named dimensions bound to numbers, so that a runtime can make use of knowing them.
import type { GraphBuilder } from './builder.ts'
import { makeGraph, type Graph } from './graph.ts'
import type { Value } from './ops.ts'
import type { Dim, Shape } from './shape.ts'

/** Rebuilds `graph` node by node with `builder`. Names that `bindings` lacks stay names. */
export function specialize(builder: GraphBuilder, graph: Graph, bindings: Readonly<Record<string, number>>): Graph {
  const made = new Map<Value, Value>()
  const bind = (shape: Shape): Shape =>
    shape.map((dim: Dim) => (typeof dim === 'string' ? (bindings[dim] ?? dim) : dim))
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((input: Value) => made.get(input) as Value)
    const attributes =
      'shape' in node.attributes ? { ...node.attributes, shape: bind(node.attributes.shape) } : node.attributes
    const outputs = builder.rebuild({ op: node.op, inputs, attributes })
    node.outputs.forEach((output, i) => made.set(output, outputs[i] as Value))
  }
  return makeGraph(
    Object.fromEntries(Object.entries(graph.outputs).map(([name, value]) => [name, made.get(value) as Value])),
  )
}

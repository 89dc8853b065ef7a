// Programs as data: a graph is what its named outputs need, and nothing else.
import assert from 'node:assert/strict'
import type { AnyNode, Node, Value } from './ops.ts'
import type { Shape } from './shape.ts'

export interface Graph {
  readonly outputs: Readonly<Record<string, Value>>
  /** Inputs before the nodes that use them. A node that no output needs is not here. */
  readonly nodes: readonly AnyNode[]
}

export function makeGraph(outputs: Readonly<Record<string, Value>>): Graph {
  const graph = { outputs, nodes: topologicalOrder(Object.values(outputs)) }
  for (const { attributes } of inputsOf(graph))
    assert.ok(!(attributes.name in outputs), `${attributes.name} is an input and an output`)
  return graph
}

/** Every node that `outputs` need, inputs before the nodes that use them. */
export function topologicalOrder(outputs: readonly Value[]): AnyNode[] {
  const order = new Set<AnyNode>()
  const pending: { readonly node: AnyNode; next: number }[] = []
  // An explicit stack: a graph of a deep model is a path longer than the call stack likes.
  for (const output of outputs) {
    if (!order.has(output.node)) pending.push({ node: output.node, next: 0 })
    while (pending.length > 0) {
      const top = pending.at(-1) as { readonly node: AnyNode; next: number }
      const input = top.node.inputs[top.next++]
      if (input === undefined) order.add((pending.pop() as { node: AnyNode }).node)
      else if (!order.has(input.node)) pending.push({ node: input.node, next: 0 })
    }
  }
  return [...order]
}

export function inputsOf(graph: Graph): readonly Node<'input'>[] {
  return graph.nodes.filter((node) => node.op === 'input')
}

/** The same node of other inputs, of the same shapes. */
export function withInputs(node: AnyNode, inputs: readonly Value[]): AnyNode {
  if (inputs.every((input, i) => input === node.inputs[i])) return node
  const outputs: Value[] = []
  const copy = { ...node, inputs, outputs } as AnyNode
  outputs.push(...node.outputs.map((output) => ({ ...output, node: copy })))
  return copy
}

/** Dimensions that no input binds: rows joined, by name, with the shapes whose extents multiplied add up to each. */
export function joinedRows(graph: Graph): ReadonlyMap<string, readonly Shape[]> {
  const joined = new Map<string, readonly Shape[]>()
  const add = (rows: string, parts: readonly Shape[]): void => {
    joined.set(
      rows,
      parts.map((shape) => shape.slice(0, -1)),
    )
  }
  for (const node of graph.nodes) {
    if (node.op === 'joinRows')
      add(
        node.attributes.rows,
        node.inputs.map((input) => input.shape),
      )
    if (node.op === 'splitRows') add(node.inputs[0].shape[0] as string, node.attributes.shapes)
  }
  return joined
}

// Reverse-mode differentiation: walk the graph backwards and apply each node's VJP rule.
import assert from 'node:assert/strict'
import type { GraphBuilder } from './builder.ts'
import { topologicalOrder } from './graph.ts'
import type { AnyNode, Node, OpName, Value } from './ops.ts'
import { sameShape } from './shape.ts'
import { vjpRules } from './vjp.ts'

/** The gradient of the scalar `loss` with respect to each of `targets` (Baydin et al. 2018, section 3.2). */
export function gradient(g: GraphBuilder, loss: Value, targets: readonly Value[]): Value[] {
  assert.equal(loss.shape.length, 0, `only a scalar has a gradient, not [${loss.shape}]`)
  const order = topologicalOrder([loss])
  const needed = reaching(order, targets)
  const cotangents = new Map<Value, Value>([[loss, g.constant(1)]])

  for (const node of order.toReversed()) {
    if (!needed.has(node) || !node.outputs.some((output) => cotangents.has(output))) continue
    const flowing = vjp(
      g,
      node,
      node.outputs.map((output) => cotangents.get(output) ?? g.constant(0, output.shape)),
      needed,
    )
    node.inputs.forEach((input, i) => {
      const cotangent = flowing[i] ?? null
      if (cotangent === null || !needed.has(input.node)) return
      const summed = sameShape(cotangent.shape, input.shape) ? cotangent : g.sumTo(cotangent, input.shape)
      const earlier = cotangents.get(input)
      cotangents.set(input, earlier === undefined ? summed : g.add(earlier, summed))
    })
  }
  return targets.map((target) => cotangents.get(target) ?? g.constant(0, target.shape))
}

/** The nodes on a path to a target. Frozen weights are on none, so nothing computes their gradient. */
function reaching(order: readonly AnyNode[], targets: readonly Value[]): Set<AnyNode> {
  const needed = new Set(targets.map((target) => target.node))
  for (const node of order) if (node.inputs.some((input) => needed.has(input.node))) needed.add(node)
  return needed
}

function vjp(g: GraphBuilder, node: AnyNode, cts: readonly Value[], needed: Set<AnyNode>): readonly (Value | null)[] {
  const apply = <Op extends OpName>(node: Node<Op>): readonly (Value | null)[] =>
    vjpRules[node.op](
      g,
      node,
      cts,
      node.inputs.map((input: Value) => needed.has(input.node)),
    )
  return apply(node as Node)
}

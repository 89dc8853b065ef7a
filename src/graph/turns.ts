// Past keys turned beside the attention that reads them, layer by layer, and not all together: elsewhere whole rows move.
import { GraphBuilder } from './builder.ts'
import { makeGraph, withInputs, type Graph } from './graph.ts'
import type { AnyNode, Node, Value } from './ops.ts'

/**
 * The same graph, bit for bit, with transposes that move the last axis behind splits and before concatenations: turned are the
 * parts. Nothing is joined only to be split. Code that reads keys position by position has nothing to do for such a transpose.
 */
export function turnedInParts(graph: Graph): Graph {
  const g = new GraphBuilder()
  const here = new Map<Value, Value>()
  // Those stay where they are until the split is reached.
  const split = new Set(graph.nodes.flatMap((node) => (node.op === 'split' ? [node.inputs[0].node] : [])))
  for (const node of graph.nodes) {
    const copy = withInputs(
      node,
      node.inputs.map((input) => here.get(input) ?? input),
    )
    const outputs = split.has(node) ? copy.outputs : (inParts(g, copy) ?? copy.outputs)
    node.outputs.forEach((output, i) => here.set(output, outputs[i] as Value))
  }
  const outputs = Object.entries(graph.outputs).map(([name, value]) => [name, here.get(value) as Value])
  return makeGraph(Object.fromEntries(outputs) as Record<string, Value>)
}

/** What stands for the outputs of this node; null: it stays. */
function inParts(g: GraphBuilder, node: AnyNode): readonly Value[] | null {
  if (node.op === 'split') {
    const [whole] = node.inputs
    const { axis, sizes } = node.attributes
    if (!isTurn(whole.node)) return splitOf(g, whole, axis, sizes)
    const { permutation } = whole.node.attributes
    const parts = splitOf(g, whole.node.inputs[0], permutation[axis] as number, sizes)
    return parts.map((part) => turnOf(g, part, permutation))
  }
  return isTurn(node) ? [turnOf(g, node.inputs[0], node.attributes.permutation)] : null
}

function isTurn(node: AnyNode): node is Node<'transpose'> {
  return node.op === 'transpose' && node.attributes.permutation.at(-1) !== node.attributes.permutation.length - 1
}

function turnOf(g: GraphBuilder, x: Value, permutation: readonly number[]): Value {
  if (x.node.op !== 'concat') return g.transpose(x, permutation)
  const parts = x.node.inputs.map((part) => g.transpose(part, permutation))
  return g.concat(parts, permutation.indexOf(x.node.attributes.axis))
}

/** What was joined only to be split is joined and split where the boundaries differ, and nowhere else. */
function splitOf(g: GraphBuilder, x: Value, axis: number, sizes: readonly number[]): readonly Value[] {
  if (x.node.op !== 'concat' || x.node.attributes.axis !== axis || sizes.includes(0)) return g.split(x, axis, sizes)
  const joined = [...x.node.inputs]
  const [parts, left]: [Value[], number[]] = [[], [...sizes]]
  while (left.length > 0) {
    const [from, to] = [joined.splice(0, 1), left.splice(0, 1)]
    let ahead = (from[0]?.shape[axis] as number) - (to[0] as number)
    while (ahead !== 0) {
      const [more] = ahead < 0 ? joined.splice(0, 1) : []
      if (more !== undefined) from.push(more)
      else to.push(left.shift() as number)
      ahead += more === undefined ? -(to.at(-1) as number) : (more.shape[axis] as number)
    }
    const whole = from.length === 1 ? (from[0] as Value) : g.concat(from, axis)
    parts.push(...(to.length === 1 ? [whole] : g.split(whole, axis, to)))
  }
  return parts
}

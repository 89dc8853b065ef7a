// Graphs of a decode session, with keys and values as its cache holds them: head by head, position by position.
import { GraphBuilder } from '../../graph/builder.ts'
import { makeGraph, withInputs, type Graph } from '../../graph/graph.ts'
import type { Value } from '../../graph/ops.ts'
import type { Dim } from '../../graph/shape.ts'
import type { CacheLayout } from '../runtime.ts'

/** The last two axes change places. */
const turned = [0, 1, 3, 2]

/**
 * The same graph, its inputs pastKey.l and crossKey.l [batch, heads, past, headDim] and turned inside, which costs nothing: products read them
 * as they lie (`lower-attention.ts`). A new key is then one line of the cache, and not one number in each of headDim lines.
 */
export function keysByPosition(forward: Graph): Graph {
  const g = new GraphBuilder()
  const replaced = new Map<Value, Value>()
  const now = (value: Value): Value => replaced.get(value) ?? value
  for (const node of forward.nodes) {
    if (node.op === 'input' && /(^|\.)(past|cross)Key\.\d+$/.test(node.attributes.name)) {
      const { name, shape } = node.attributes
      const [batch, heads, headDim, past] = shape as readonly [Dim, Dim, Dim, Dim]
      replaced.set(node.outputs[0] as Value, g.transpose(g.input(name, [batch, heads, past, headDim]), turned))
    } else if (node.inputs.some((input) => replaced.has(input))) {
      const copy = withInputs(node, node.inputs.map(now))
      node.outputs.forEach((output, i) => replaced.set(output, copy.outputs[i] as Value))
    }
  }
  const outputs = Object.entries(forward.outputs).map(([name, value]) => [name, now(value)] as const)
  return makeGraph(Object.fromEntries(outputs))
}

/**
 * The encoder's graph with what cross-attention sees as [2·layers, B, heads, S, headDim]: a head of a row is one piece of memory then,
 * as in the cache, and what is many megabytes is not moved number by number.
 */
export function crossByHead(encoder: Graph, { heads, headDim }: Pick<CacheLayout, 'heads' | 'headDim'>): Graph {
  const g = new GraphBuilder()
  const cross = encoder.outputs['cross'] as Value
  const [of, batch, positions] = cross.shape as readonly [Dim, Dim, Dim]
  return makeGraph({ cross: g.transpose(g.reshape(cross, [of, batch, positions, heads, headDim]), [0, 1, 3, 2, 4]) })
}

/** Without the new keys and values: the program puts them into the cache. */
export const withoutPresent = ({ outputs }: Graph): Graph => makeGraph({ logits: outputs['logits'] as Value })

/** What such an input is, and null for any other past keys. */
export function fedByPosition({ node }: Value): Value | null {
  if (node.op !== 'transpose' || node.attributes.permutation.join() !== turned.join()) return null
  const [fed] = node.inputs
  return fed.node.op === 'input' ? fed : null
}

// A graph as text, one node a line, for people and for golden files.
import type { Graph } from './graph.ts'
import type { AnyNode, Value } from './ops.ts'

/** `%3 = linear(%1, %2) transposed=true : [B, T, 768]`, and the named outputs at the end. */
export function printGraph(graph: Graph): string {
  const numbers = new Map<AnyNode, number>()
  const name = ({ node, index }: Value): string => `%${numbers.get(node)}${node.outputs.length > 1 ? `.${index}` : ''}`
  const lines = graph.nodes.map((node, number) => {
    numbers.set(node, number)
    const attributes = Object.entries(node.attributes).filter(
      ([key]) => key !== 'dtype' && !(node.inputs.length === 0 && key === 'shape'),
    )
    const shapes = node.outputs.map(({ shape, dtype }) => `${dtype === 'int32' ? 'int32 ' : ''}[${shape.join(', ')}]`)
    const shown = attributes.map(
      ([key, value]) => ` ${key}=${Array.isArray(value) ? `[${value.join(', ')}]` : String(value)}`,
    )
    return `%${number} = ${node.op}(${node.inputs.map(name).join(', ')})${shown.join('')} : ${shapes.join(' ')}`
  })
  for (const [output, value] of Object.entries(graph.outputs)) lines.push(`${output} = ${name(value)}`)
  return `${lines.join('\n')}\n`
}

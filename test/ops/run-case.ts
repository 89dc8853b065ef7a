// A case made ready to run: its graph, and random data for its inputs and weights.
import { GraphBuilder } from '../../src/graph/builder.ts'
import { inputsOf, makeGraph, type Graph } from '../../src/graph/graph.ts'
import type { Value } from '../../src/graph/ops.ts'
import { bindShape } from '../../src/graph/shape.ts'
import { Random } from '../../src/random/random.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import { sizeOf } from '../../src/tensor/tensor.ts'
import type { OpCase } from './cases.ts'

/** Printed with every failure; SEED=… takes it back. */
export const seed = Number(process.env['SEED'] ?? 7)

export interface ReadyCase {
  readonly g: GraphBuilder
  readonly outputs: readonly Value[]
  readonly graph: Graph
  readonly feeds: Feeds
  readonly weights: ReadonlyMap<string, Float64Array>
}

export function ready({ build, integers = {}, dims = {} }: OpCase): ReadyCase {
  const g = new GraphBuilder()
  const built = build(g)
  const outputs = 'node' in built ? [built] : built
  const graph = makeGraph(Object.fromEntries(outputs.map((output, i) => [`out${i}`, output])))
  const random = new Random(seed)
  const bindings = new Map(Object.entries(dims))
  const draw = (shape: readonly number[]): Float64Array =>
    Float64Array.from({ length: sizeOf(shape) }, () => Math.fround(random.normal()))

  const feeds: Record<string, Feeds[string]> = {}
  for (const { attributes } of inputsOf(graph)) {
    const shape = bindShape(attributes.shape, bindings)
    const data = attributes.dtype === 'int32' ? Int32Array.from(integers[attributes.name] ?? []) : draw(shape)
    feeds[attributes.name] = { dtype: attributes.dtype, shape, data }
  }
  const weights = new Map<string, Float64Array>()
  for (const node of graph.nodes)
    if (node.op === 'weight') weights.set(node.attributes.name, draw(node.attributes.shape as number[]))
  return { g, outputs, graph, feeds, weights }
}

// A graph cut around its frozen model: what makes the model's inputs, the model forward and backward, and what is made of its outputs.
import { GraphBuilder } from './builder.ts'
import { inputsOf, joinedRows, makeGraph, withInputs, type Graph } from './graph.ts'
import type { AnyNode, OpName, Value } from './ops.ts'
import type { Dim } from './shape.ts'

/**
 * Three graphs that compute one after the other what `whole` computes. What crosses from one to a later one is an output there
 * and an input here, of one name; inputs of `whole` keep their names and are fed to whichever graphs have them.
 */
export interface CutGraph {
  readonly whole: Graph
  /** null: the model's inputs are fed. */
  readonly before: Graph | null
  /** All that takes time. */
  readonly trunk: Graph
  /** null: all that is wanted comes from the other two. */
  readonly after: Graph | null
}

/** In the order in which they run. */
const stages = ['before', 'trunk', 'after'] as const
type Stage = (typeof stages)[number]

/** Whether whoever computes the trunk has a kernel for a node, of the graph that is cut. */
type Supports = (node: AnyNode) => boolean

/**
 * The trunk has every heavy node and all else that it can have: outside is what is not supported, what that is made of where the
 * model needs it, and what is made of it where the model does not. So frozen weights and integers never cross, embeddings are
 * looked up inside, and of the values that cross there are few. null: nothing is heavy, or something unsupported lies inside
 * the model, or a graph would have a dimension that none of its inputs binds.
 */
export function cutGraph(graph: Graph, supports: Supports): CutGraph | null {
  const placed = placedNodes(graph, supports)
  if (placed === null) return null
  const carried = carriedNames(graph, placed)
  const [before, trunk, after] = stages.map((stage) => graphOf(stage, graph, placed, carried)) as [
    Graph | null,
    Graph,
    Graph | null,
  ]
  const isBound = [before, trunk, after].every((each) => each === null || bindsItsDimensions(each))
  return isBound && trunk.nodes.every(supports) ? { whole: graph, before, trunk, after } : null
}

/** What makes a model a model; of `linear` see below. */
const heavyOps: ReadonlySet<OpName> = new Set<OpName>([
  'layerNorm',
  'layerNormGrad',
  'gelu',
  'geluGrad',
  'exactGelu',
  'exactGeluGrad',
  'attention',
  'attentionGrad',
  'crossAttention',
  'crossAttentionGrad',
  'crossEntropy',
  'crossEntropyGrad',
])

/** Belongs to the frozen model: a product with what is trained does not. */
export function isHeavy(node: AnyNode): boolean {
  return node.op === 'linear' ? isFrozen(node.inputs[1].node) : heavyOps.has(node.op)
}

function isFrozen(node: AnyNode): boolean {
  return node.op === 'weight' || node.op === 'constant' || (node.op === 'reshape' && isFrozen(node.inputs[0].node))
}

/** Stands in every graph that uses it, since it is there without computing. */
const isLeaf = (node: AnyNode): boolean => node.op === 'input' || isFrozen(node)

/** Of every node but leaves. null: something unsupported lies between heavy nodes. */
function placedNodes({ nodes }: Graph, supports: Supports): ReadonlyMap<AnyNode, Stage> | null {
  const computed = nodes.filter((node) => !isLeaf(node))
  const [needed, before] = [new Set<AnyNode>(), new Set<AnyNode>()]
  for (const node of computed.toReversed()) {
    const isNeeded = needed.has(node) || isHeavy(node)
    if (needed.has(node) && !supports(node)) before.add(node)
    for (const input of node.inputs) {
      if (isNeeded) needed.add(input.node)
      if (before.has(node)) before.add(input.node)
    }
  }
  const behind = new Set<AnyNode>()
  const placed = new Map<AnyNode, Stage>()
  for (const node of computed) {
    if (isHeavy(node) || node.inputs.some((input) => behind.has(input.node))) behind.add(node)
    if (isHeavy(node) && (before.has(node) || !supports(node))) return null
    placed.set(node, stageOf(node))
  }
  return behind.size === 0 ? null : placed

  function stageOf(node: AnyNode): Stage {
    if (before.has(node)) return 'before'
    if (needed.has(node) || isHeavy(node)) return 'trunk'
    const isLate = node.inputs.some((input) => placed.get(input.node) === 'after')
    return isLate || !behind.has(node) || !supports(node) ? 'after' : 'trunk'
  }
}

/** Names of the values that one stage makes and another needs: outputs of the whole keep theirs. */
function carriedNames(graph: Graph, placed: ReadonlyMap<AnyNode, Stage>): ReadonlyMap<Value, string> {
  const wanted = new Map(Object.entries(graph.outputs).map(([name, value]) => [value, name]))
  const taken = new Set([...Object.keys(graph.outputs), ...inputsOf(graph).map(({ attributes }) => attributes.name)])
  const names = new Map<Value, string>()
  let count = 0
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      const from = placed.get(input.node)
      if (from === undefined || from === placed.get(node) || names.has(input)) continue
      names.set(input, wanted.get(input) ?? fresh())
    }
  }
  return names

  function fresh(): string {
    let name: string
    do name = `carried.${count++}`
    while (taken.has(name))
    return name
  }
}

function graphOf(
  stage: Stage,
  whole: Graph,
  placed: ReadonlyMap<AnyNode, Stage>,
  carried: ReadonlyMap<Value, string>,
): Graph | null {
  const g = new GraphBuilder()
  const outputs: Record<string, Value> = {}
  const here = new Map<Value, Value>()
  const now = (value: Value): Value => {
    const known = isLeaf(value.node) ? value : here.get(value)
    if (known !== undefined) return known
    const fed = g.input(carried.get(value) as string, value.shape, value.dtype)
    here.set(value, fed)
    return fed
  }
  for (const node of whole.nodes) {
    if (placed.get(node) !== stage) continue
    const copy = withInputs(node, node.inputs.map(now))
    node.outputs.forEach((output, i) => {
      const own = copy.outputs[i] as Value
      here.set(output, own)
      const name = carried.get(output)
      if (name !== undefined) outputs[name] = own
    })
  }
  for (const [name, value] of Object.entries(whole.outputs)) {
    // A leaf is in every stage; the last one answers it.
    if ((placed.get(value.node) ?? 'after') === stage) outputs[name] = now(value)
  }
  return Object.keys(outputs).length === 0 ? null : makeGraph(outputs)
}

function bindsItsDimensions(graph: Graph): boolean {
  const bound = new Set<Dim>([
    ...inputsOf(graph).flatMap(({ attributes }) => attributes.shape),
    ...joinedRows(graph).keys(),
  ])
  const shapes = graph.nodes.flatMap(({ outputs }) => outputs.flatMap(({ shape }) => shape))
  return shapes.every((dim) => typeof dim === 'number' || bound.has(dim))
}

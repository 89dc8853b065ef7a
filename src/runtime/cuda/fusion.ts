// Decides before lowering what goes into one step with its neighbour, and what is written straight to where it is wanted.
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'

export interface Fusions {
  /** Linear nodes and gradients of layer norms that the sum behind them computes, or the gelu. */
  readonly deferred: ReadonlySet<AnyNode>
  /** Of a sum: the operand it computes itself, added to the other one. */
  readonly computedBy: ReadonlyMap<AnyNode, Value>
  /** Losses that come with their gradient, by the gradient's node. */
  readonly losses: ReadonlyMap<AnyNode, Value>
  /** Forward attention by the key of its inputs, and which of them a gradient asks for. */
  readonly attentions: ReadonlyMap<string, Node<'attention'>>
  readonly differentiated: ReadonlySet<string>
}

/** Inputs that are the same give the same key. */
export class ValueKeys {
  readonly #numbers = new Map<Value, number>()

  of(values: readonly Value[]): string {
    return values
      .map((value) => {
        const number = this.#numbers.get(value) ?? this.#numbers.size
        this.#numbers.set(value, number)
        return number
      })
      .join()
  }
}

const addable: ReadonlySet<OpName> = new Set<OpName>(['linear', 'layerNormGrad'])

export function findFusions(graph: Graph, keys: ValueKeys): Fusions {
  const consumers = new Map<Value, AnyNode[]>()
  for (const node of graph.nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node])
  const outputs = new Set(Object.values(graph.outputs))
  const isOnlyFor = (value: Value, node: AnyNode): boolean =>
    !outputs.has(value) && consumers.get(value)?.length === 1 && consumers.get(value)?.[0] === node

  const deferred = new Set<AnyNode>()
  const computedBy = new Map<AnyNode, Value>()
  for (const node of graph.nodes) {
    if (node.op === 'gelu') {
      const [x] = node.inputs
      if (x.node.op === 'linear' && isOnlyFor(x, node)) deferred.add(x.node)
    } else if (node.op === 'add') {
      const [x, y] = node.inputs
      const same = x.shape.length === y.shape.length && x.shape.every((dim, axis) => dim === y.shape[axis])
      const own = [y, x].find((each) => addable.has(each.node.op) && isOnlyFor(each, node))
      if (!same || own === undefined || x === y) continue
      deferred.add(own.node)
      computedBy.set(node, own)
    }
  }

  const losses = new Map<AnyNode, Value>()
  const forwards = new Map<string, Node<'crossEntropy'>>()
  const attentions = new Map<string, Node<'attention'>>()
  const differentiated = new Set<string>()
  for (const node of graph.nodes) {
    if (node.op === 'crossEntropy') forwards.set(`${keys.of(node.inputs)} ${node.attributes.smoothing}`, node)
    if (node.op === 'attention') attentions.set(keys.of(node.inputs), node)
    if (node.op === 'attentionGrad') differentiated.add(keys.of(node.inputs.slice(0, 6)))
  }
  for (const node of graph.nodes) {
    if (node.op !== 'crossEntropyGrad') continue
    const forward = forwards.get(`${keys.of(node.inputs.slice(0, 3))} ${node.attributes.smoothing}`)
    const loss = forward?.outputs[0]
    // The loss is there only when its gradient is: nothing in between may ask for it.
    if (loss !== undefined && !consumers.has(loss) && ![...losses.values()].includes(loss)) losses.set(node, loss)
  }
  return { deferred, computedBy, losses, attentions, differentiated }
}

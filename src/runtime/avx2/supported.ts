// What of a graph there are kernels for: the operations of serving in words, and those of training in float32.
import type { Graph } from '../../graph/graph.ts'
import type { AnyNode, Node, OpName, Value } from '../../graph/ops.ts'
import { sameShape } from '../../graph/shape.ts'
import { isTurn } from './lower-trained-attention.ts'
import { lanes } from './lowering.ts'
import { biasOf, frozenName, type ProductForm } from './weights.ts'

/** What there is no kernel for; null: nothing. */
export function unsupported(graph: Graph, form: ProductForm = 'words'): string | null {
  let known: number | null = null
  for (const node of graph.nodes) {
    const problem = lacking(node, form)
    if (problem !== null) return problem
    // One kernel has all heads.
    const headDim = headDimOf(node)
    if (form === 'float32' && node.op === 'transpose' && isTurn(node) && !isSpared(graph, node))
      return 'transpose 0,1,3,2'
    if (form === 'words' && headDim > 0 && headDim !== (known ??= headDim))
      return `heads of ${known} and of ${headDim} numbers`
  }
  return null
}

/** Attention reads past keys as they lie on either side of a turn, and writes their gradients so; whoever else wants both sides has none. */
function isSpared(graph: Graph, turn: Node<'transpose'>): boolean {
  const usersOf = (value: Value): AnyNode[] =>
    graph.nodes.filter(({ inputs }) => inputs.some((input) => input === value))
  const isWanted = (value: Value): boolean => Object.values(graph.outputs).includes(value)
  const [from, out] = [turn.inputs[0], turn.outputs[0] as Value]
  const made = { attentionGrad: 3, crossAttentionGrad: 1 } as const satisfies { readonly [Op in OpName]?: number }
  if (from.node.op in made && from.index === made[from.node.op as keyof typeof made])
    return usersOf(from).length === 1 && !isWanted(from)
  const read = { attention: 3, crossAttention: 1, ...made }
  return (
    !isWanted(out) &&
    usersOf(out).every(({ op, inputs }) => {
      const place = op in read ? read[op as keyof typeof read] : null
      return inputs.every((input, i) => input !== out || i === place)
    })
  )
}

const headDimOf = (node: AnyNode): number =>
  'heads' in node.attributes ? (node.inputs[0]?.shape.at(-1) as number) / node.attributes.heads : 0

/** Why a node has no kernel by itself; null: it has one. */
export function lacking(node: AnyNode, form: ProductForm): string | null {
  const rule = (form === 'words' ? served : trained)[node.op] as ((node: AnyNode) => string | null) | undefined
  return rule === undefined ? node.op : rule(node)
}

type Rules = { readonly [Op in OpName]?: (node: Node<Op>) => string | null }

const always = (): null => null

/** Rows are taken some numbers at a time. */
function wholeRows({ op, outputs, inputs }: AnyNode): string | null {
  const odd = [...inputs, ...outputs].find(({ shape, dtype }) => dtype === 'float32' && !isWhole(shape.at(-1)))
  return odd === undefined ? null : `${op} of rows of ${odd.shape.at(-1)} numbers`
}

const isWhole = (extent: string | number | undefined): boolean => typeof extent === 'number' && extent % lanes === 0

const isFrozen = (value: Value): boolean => frozenName(value) !== null

/** A bias lies with zeros behind it, so it must be there from the start. */
const biased = ({ inputs: [, , b] }: Node<'linear'>): string | null =>
  b === undefined || isFrozen(b) ? null : 'linear with a bias that is not frozen'

const wholeHeads = (node: AnyNode): string | null =>
  headDimOf(node) % lanes === 0 ? null : `heads of ${headDimOf(node)} numbers`

/** The bias too must be there from the start. */
function frozenTable(node: Node<'crossEntropy'> | Node<'crossEntropyGrad'>): string | null {
  if (node.inputs[1].node.op !== 'weight') return `${node.op} with a table that is not frozen`
  const bias = biasOf(node)
  return bias === null || isFrozen(bias) ? null : `${node.op} with a bias that is not frozen`
}

/** Serving: shapes are those of models, whose rows and heads are checked where they are multiplied. */
const served: Rules = {
  input: always,
  weight: always,
  constant: always,
  gather: always,
  layerNorm: always,
  add: always,
  mul: always,
  gelu: always,
  exactGelu: always,
  reshape: always,
  transpose: always,
  split: always,
  concat: always,
  joinRows: always,
  splitRows: always,
  linear: (node) => {
    const [, w] = node.inputs
    if (w.node.op !== 'weight') return 'linear with what is not frozen'
    const [rows, columns] = w.shape as readonly [number, number]
    const inner = node.attributes.transposed ? columns : rows
    return inner % lanes === 0 ? biased(node) : `linear of ${inner} numbers`
  },
  attention: wholeHeads,
  crossAttention: wholeHeads,
}

const trained: Rules = {
  input: always,
  weight: always,
  constant: always,
  gather: wholeRows,
  layerNorm: (node) =>
    isFrozen(node.inputs[1]) && isFrozen(node.inputs[2]) ? wholeRows(node) : 'layerNorm that learns',
  add: (node) => (sameShape(node.inputs[0].shape, node.inputs[1].shape) ? wholeRows(node) : 'add of two shapes'),
  mul: ({ inputs: [x, y] }) => {
    const [value, factor] = y.node.op === 'constant' ? [x, y] : [y, x]
    return factor.node.op === 'constant' && factor.shape.length === 0 && isWhole(value.shape.at(-1))
      ? null
      : 'mul of two values'
  },
  gelu: wholeRows,
  exactGelu: wholeRows,
  // What is frozen is never copied for it: a bias of logits may have any width.
  reshape: (node) => (isFrozen(node.inputs[0]) ? null : wholeRows(node)),
  split: (node) => {
    const { axis } = node.attributes
    return axis === 0 || axis === node.inputs[0].shape.length - 1 ? wholeRows(node) : `split along axis ${axis}`
  },
  joinRows: wholeRows,
  splitRows: wholeRows,
  concat: (node) => {
    const { axis } = node.attributes
    return axis === 0 || axis === node.outputs[0]!.shape.length - 1 ? wholeRows(node) : `concat along axis ${axis}`
  },
  transpose: (node) => {
    const { permutation } = node.attributes
    if (isTurn(node)) return null
    return permutation.at(-1) === permutation.length - 1 ? wholeRows(node) : `transpose ${permutation}`
  },
  linear: biased,
  attention: always,
  attentionGrad: always,
  crossAttention: always,
  crossAttentionGrad: always,
  crossEntropy: frozenTable,
  crossEntropyGrad: frozenTable,
  layerNormGrad: (node) => (isFrozen(node.inputs[1]) ? wholeRows(node) : 'layerNormGrad that learns'),
  geluGrad: wholeRows,
  exactGeluGrad: wholeRows,
  scatterAdd: wholeRows,
}

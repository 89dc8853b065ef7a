// One case or more for each op: the smallest graph that shows what it does. Every suite runs them all.
import type { GraphBuilder } from '../../src/graph/builder.ts'
import type { OpName, Ops, Value } from '../../src/graph/ops.ts'

export interface OpCase {
  readonly name: string
  readonly build: (g: GraphBuilder) => Value | readonly Value[]
  /** Data of int32 inputs; float inputs are drawn at random. */
  readonly integers?: Readonly<Record<string, readonly number[]>>
  /** What named dimensions are; every one named in `build` must be here. */
  readonly dims?: Readonly<Record<string, number>>
}

const x23 = (g: GraphBuilder): Value => g.input('x', [2, 3])
const rows = (g: GraphBuilder, name: string, width: number): Value => g.input(name, ['B', 'T', width])
const BT = { B: 2, T: 3 }

interface AttentionShape {
  readonly past: number | string
  readonly pastBatch: 1 | 'B'
  readonly lengthsBatch: 1 | 'B'
  /** Lengths for each query instead of each row. */
  readonly perQuery?: boolean
}

function attention(g: GraphBuilder, { past, pastBatch, lengthsBatch, perQuery = false }: AttentionShape): Value {
  const qkv = [rows(g, 'q', 4), rows(g, 'k', 4), rows(g, 'v', 4)] as const
  const pastKey = g.input('pastKey', [pastBatch, 2, 2, past])
  const pastValue = g.input('pastValue', [pastBatch, 2, past, 2])
  const lengths = g.input('lengths', perQuery ? [lengthsBatch, 'T'] : [lengthsBatch], 'int32')
  return g.attention([...qkv, pastKey, pastValue, lengths], 2)
}

interface CrossShape {
  readonly pastBatch: 1 | 'B'
  readonly lengthsBatch: 1 | 'B'
  /** Whether keys come beside the past. */
  readonly beside: boolean
}

function crossInputs(
  g: GraphBuilder,
  { pastBatch, lengthsBatch, beside }: CrossShape,
): Ops['crossAttention']['inputs'] {
  const pastKey = g.input('pastKey', [pastBatch, 2, 2, 'P'])
  const pastValue = g.input('pastValue', [pastBatch, 2, 'P', 2])
  const past = [rows(g, 'q', 4), pastKey, pastValue, g.input('lengths', [lengthsBatch], 'int32')] as const
  if (!beside) return past
  const key = g.input('k', ['B', 'S', 4])
  return [...past, key, g.input('v', ['B', 'S', 4]), g.input('keyLengths', ['B'], 'int32')]
}

/** Hidden states, table and labels. */
const scored = (g: GraphBuilder): readonly [Value, Value, Value] => [
  g.input('h', ['R', 3]),
  g.weight('table', [7, 3]),
  g.input('labels', ['R'], 'int32'),
]
const threeRows = { integers: { labels: [6, 0, 3] }, dims: { R: 3 } }

export const cases: { readonly [Op in OpName]: readonly OpCase[] } = {
  input: [{ name: 'of named dimensions', build: (g) => g.scale(rows(g, 'x', 2), 3), dims: BT }],
  weight: [{ name: 'used as it is', build: (g) => g.add(x23(g), g.weight('w', [2, 3])) }],
  constant: [
    { name: 'scalar', build: (g) => g.mul(x23(g), g.constant(2)) },
    { name: 'of named dimensions', build: (g) => g.mul(rows(g, 'x', 2), g.constant(2, ['B', 'T', 2])), dims: BT },
  ],
  add: [
    { name: 'broadcast over rows', build: (g) => g.add(x23(g), g.input('y', [3])) },
    { name: 'of equal shapes', build: (g) => g.add(rows(g, 'x', 2), rows(g, 'y', 2)), dims: BT },
    {
      name: 'with itself',
      build: (g) => {
        const x = x23(g)
        return g.add(x, x)
      },
    },
  ],
  mul: [
    { name: 'broadcast over columns', build: (g) => g.mul(g.input('x', [2, 1]), g.input('y', [2, 3])) },
    { name: 'broadcast over a named axis', build: (g) => g.mul(rows(g, 'x', 2), g.input('y', [1, 'T', 1])), dims: BT },
    {
      name: 'squared',
      build: (g) => {
        const x = x23(g)
        return g.mul(x, x)
      },
    },
  ],
  tanh: [
    { name: 'of a vector', build: (g) => g.tanh(g.input('x', [4])) },
    { name: 'of rows', build: (g) => g.tanh(rows(g, 'x', 2)), dims: BT },
  ],
  linear: [
    { name: 'with bias', build: (g) => g.linear(rows(g, 'x', 4), g.input('w', [4, 5]), g.input('b', [5])), dims: BT },
    {
      name: 'without bias, transposed',
      build: (g) => g.linear(x23(g), g.input('w', [4, 3]), null, { transposed: true }),
    },
  ],
  outer: [{ name: 'over all rows', build: (g) => g.outer(rows(g, 'x', 2), rows(g, 'y', 3)), dims: BT }],
  reshape: [
    { name: 'of numbers', build: (g) => g.reshape(x23(g), [3, 2]) },
    { name: 'with a new axis before named ones', build: (g) => g.reshape(rows(g, 'x', 2), [1, 'B', 'T', 2]), dims: BT },
  ],
  transpose: [{ name: 'a cycle of three axes', build: (g) => g.transpose(g.input('x', [2, 3, 4]), [1, 2, 0]) }],
  split: [
    { name: 'along the last axis', build: (g) => g.split(rows(g, 'x', 5), 2, [2, 3]), dims: BT },
    { name: 'along the first axis', build: (g) => g.split(g.input('x', [3, 2, 2]), 0, [1, 2]) },
    { name: 'with one part unused', build: (g) => g.tanh(g.split(rows(g, 'x', 5), 2, [2, 3])[1] as Value), dims: BT },
  ],
  concat: [
    { name: 'along the last axis', build: (g) => g.concat([rows(g, 'x', 2), rows(g, 'y', 3)], 2), dims: BT },
    { name: 'along a new axis', build: (g) => g.stack([rows(g, 'x', 2), rows(g, 'y', 2)]), dims: BT },
  ],
  sumTo: [
    { name: 'a scalar', build: (g) => g.sumTo(rows(g, 'x', 2), []), dims: BT },
    { name: 'one kept axis', build: (g) => g.sumTo(x23(g), [1, 3]) },
    { name: 'named axes away', build: (g) => g.sumTo(rows(g, 'x', 2), [2]), dims: BT },
  ],
  broadcastTo: [
    // The sum beside it feeds the named axis.
    {
      name: 'a named axis',
      build: (g) => g.add(g.broadcastTo(g.input('x', [3]), ['B', 3]), g.input('y', ['B', 3])),
      dims: { B: 2 },
    },
    { name: 'an axis of one', build: (g) => g.broadcastTo(g.input('x', [1, 3]), [2, 3]) },
  ],
  joinRows: [
    {
      name: 'of two batches',
      build: (g) => g.joinRows([rows(g, 'x', 2), g.input('y', ['C', 1, 2])], 'N'),
      dims: { ...BT, C: 4 },
    },
    {
      name: 'of which single ones are taken',
      build: (g) => g.gather(g.joinRows([rows(g, 'x', 2), g.input('y', ['C', 2])], 'N'), g.input('at', ['R'], 'int32')),
      integers: { at: [9, 0, 9] },
      dims: { ...BT, C: 4, R: 3 },
    },
  ],
  splitRows: [
    {
      name: 'into batches of different lengths',
      build: (g) => {
        const joined = g.tanh(g.joinRows([rows(g, 'x', 2), g.input('y', ['C', 1, 2])], 'N'))
        return g.splitRows(joined, [
          ['C', 1, 2],
          ['B', 'T', 2],
        ])
      },
      dims: { ...BT, C: 4 },
    },
  ],
  gather: [
    {
      name: 'rows of a table',
      build: (g) => g.gather(g.input('x', [4, 2]), g.input('ids', ['B', 'T'], 'int32')),
      integers: { ids: [3, 0, 3, 1, 2, 3] },
      dims: BT,
    },
    {
      name: 'rows over two axes',
      build: (g) => g.gather(rows(g, 'x', 2), g.input('at', ['R'], 'int32')),
      integers: { at: [5, 0] },
      dims: { ...BT, R: 2 },
    },
  ],
  scatterAdd: [
    {
      name: 'with a row hit twice',
      build: (g) => g.scatterAdd(g.input('x', ['R', 2]), g.input('at', ['R'], 'int32'), [4, 2]),
      integers: { at: [1, 3, 1] },
      dims: { R: 3 },
    },
  ],
  layerNorm: [
    {
      name: 'of rows',
      build: (g) => g.layerNorm(rows(g, 'x', 5), g.input('s', [5]), g.input('b', [5]), 1e-5),
      dims: BT,
    },
  ],
  layerNormGrad: [
    {
      name: 'of rows',
      build: (g) => g.layerNormGrad([rows(g, 'x', 5), g.input('s', [5]), g.input('b', [5])], rows(g, 'ct', 5), 1e-5),
      dims: BT,
    },
  ],
  gelu: [{ name: 'of rows', build: (g) => g.gelu(rows(g, 'x', 5)), dims: BT }],
  geluGrad: [{ name: 'of rows', build: (g) => g.geluGrad(rows(g, 'x', 5), rows(g, 'ct', 5)), dims: BT }],
  exactGelu: [{ name: 'of rows', build: (g) => g.exactGelu(rows(g, 'x', 5)), dims: BT }],
  exactGeluGrad: [{ name: 'of rows', build: (g) => g.exactGeluGrad(rows(g, 'x', 5), rows(g, 'ct', 5)), dims: BT }],
  attention: [
    {
      name: 'over one past for all rows',
      build: (g) => attention(g, { past: 3, pastBatch: 1, lengthsBatch: 1 }),
      integers: { lengths: [3] },
      dims: BT,
    },
    {
      name: 'over a past of each row, of different lengths',
      build: (g) => attention(g, { past: 'P', pastBatch: 'B', lengthsBatch: 'B' }),
      integers: { lengths: [4, 1] },
      dims: { ...BT, P: 4 },
    },
    {
      name: 'over a past that no row sees',
      build: (g) => attention(g, { past: 2, pastBatch: 1, lengthsBatch: 'B' }),
      integers: { lengths: [0, 0] },
      dims: BT,
    },
    {
      name: 'of one new token',
      build: (g) => attention(g, { past: 'P', pastBatch: 'B', lengthsBatch: 'B' }),
      integers: { lengths: [2, 5] },
      dims: { B: 2, T: 1, P: 5 },
    },
    {
      name: 'over a past of which each query of each row sees another part',
      build: (g) => attention(g, { past: 3, pastBatch: 1, lengthsBatch: 'B', perQuery: true }),
      integers: { lengths: [0, 2, 3, 1, 0, 3] },
      dims: BT,
    },
    {
      name: 'over a past of each row, of which each query sees another part, the same in all rows',
      build: (g) => attention(g, { past: 'P', pastBatch: 'B', lengthsBatch: 1, perQuery: true }),
      integers: { lengths: [0, 4, 2] },
      dims: { ...BT, P: 4 },
    },
    {
      name: 'of queries, keys and values cut from one projection',
      build: (g) => {
        const [q, k, v] = g.split(rows(g, 'qkv', 12), 2, [4, 4, 4]) as [Value, Value, Value]
        const past = [g.input('pastKey', [1, 2, 2, 3]), g.input('pastValue', [1, 2, 3, 2])] as const
        return g.attention([q, k, v, ...past, g.input('lengths', [1], 'int32')], 2)
      },
      integers: { lengths: [3] },
      dims: BT,
    },
  ],
  attentionGrad: [
    {
      name: 'all five cotangents',
      build: (g) =>
        g.attentionGrad(
          attention(g, { past: 3, pastBatch: 'B', lengthsBatch: 'B' }).node.inputs as never,
          rows(g, 'ct', 4),
          2,
        ),
      integers: { lengths: [3, 2] },
      dims: BT,
    },
    {
      name: 'all five cotangents, of which each query sees another part of the past',
      build: (g) =>
        g.attentionGrad(
          attention(g, { past: 3, pastBatch: 1, lengthsBatch: 'B', perQuery: true }).node.inputs as never,
          rows(g, 'ct', 4),
          2,
        ),
      integers: { lengths: [0, 0, 3, 2, 1, 3] },
      dims: BT,
    },
  ],
  crossAttention: [
    {
      name: 'over one past for all rows and keys of each, of different lengths',
      build: (g) => g.crossAttention(crossInputs(g, { pastBatch: 1, lengthsBatch: 1, beside: true }), 2),
      integers: { lengths: [3], keyLengths: [5, 2] },
      dims: { ...BT, P: 3, S: 5 },
    },
    {
      name: 'over a past of each row of which some rows see nothing',
      build: (g) => g.crossAttention(crossInputs(g, { pastBatch: 'B', lengthsBatch: 'B', beside: true }), 2),
      integers: { lengths: [0, 2], keyLengths: [1, 2] },
      dims: { ...BT, P: 3, S: 2 },
    },
    {
      name: 'over a past alone',
      build: (g) => g.crossAttention(crossInputs(g, { pastBatch: 'B', lengthsBatch: 'B', beside: false }), 2),
      integers: { lengths: [4, 1] },
      dims: { ...BT, P: 4 },
    },
    {
      name: 'of one query over a past alone',
      build: (g) => g.crossAttention(crossInputs(g, { pastBatch: 'B', lengthsBatch: 'B', beside: false }), 2),
      integers: { lengths: [2, 5] },
      dims: { B: 2, T: 1, P: 5 },
    },
    {
      name: 'of more queries and keys than one block takes',
      build: (g) => g.crossAttention(crossInputs(g, { pastBatch: 1, lengthsBatch: 1, beside: true }), 2),
      integers: { lengths: [3], keyLengths: [70, 33] },
      dims: { B: 2, T: 21, P: 3, S: 70 },
    },
  ],
  crossAttentionGrad: [
    {
      name: 'all five cotangents',
      build: (g) =>
        g.crossAttentionGrad(crossInputs(g, { pastBatch: 1, lengthsBatch: 1, beside: true }), rows(g, 'ct', 4), 2),
      integers: { lengths: [2], keyLengths: [5, 2] },
      dims: { ...BT, P: 3, S: 5 },
    },
    {
      name: 'all five cotangents, of more queries and keys than one block takes',
      build: (g) =>
        g.crossAttentionGrad(crossInputs(g, { pastBatch: 'B', lengthsBatch: 'B', beside: true }), rows(g, 'ct', 4), 2),
      integers: { lengths: [3, 0], keyLengths: [40, 33] },
      dims: { B: 2, T: 35, P: 3, S: 40 },
    },
    {
      name: 'of a past alone',
      build: (g) =>
        g.crossAttentionGrad(crossInputs(g, { pastBatch: 'B', lengthsBatch: 'B', beside: false }), rows(g, 'ct', 4), 2),
      integers: { lengths: [2, 3] },
      dims: { ...BT, P: 3 },
    },
  ],
  crossEntropy: [
    { name: 'against a frozen table', build: (g) => g.crossEntropy(scored(g)), ...threeRows },
    { name: 'with smoothed labels', build: (g) => g.crossEntropy(scored(g), 0.3), ...threeRows },
    {
      name: 'with a bias and smoothed labels',
      build: (g) => g.crossEntropy([...scored(g), g.weight('bias', [7])], 0.3),
      ...threeRows,
    },
  ],
  crossEntropyGrad: [
    { name: 'of three rows', build: (g) => g.crossEntropyGrad(scored(g), g.input('ct', ['R']), 0), ...threeRows },
    {
      name: 'with a bias',
      build: (g) => g.crossEntropyGrad([...scored(g), g.weight('bias', [7])], g.input('ct', ['R']), 0),
      ...threeRows,
    },
    {
      name: 'of smoothed labels',
      build: (g) => g.crossEntropyGrad(scored(g), g.input('ct', ['R']), 0.3),
      ...threeRows,
    },
  ],
}

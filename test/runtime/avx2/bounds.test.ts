// Kernels touch nothing beyond what they are given: it lies beside pages that may not be touched, and whoever does so ends this process.
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import { float32, type Tensor } from '../../../src/tensor/tensor.ts'
import { guarded } from './guarded-memory.ts'
import { assertSame, integers, normal, open, runOnce, seed, skip, type NamedNumbers } from './run-graph.ts'

type Shapes = Readonly<Record<string, readonly number[]>>

/** Runs a graph on numbers in usual memory, and beside guards; `fixed` inputs are lengths and the like. */
async function assertInside(
  graph: Graph,
  { inputs, weights = {}, fixed = {} }: { inputs: Shapes; weights?: Shapes; fixed?: Readonly<Record<string, Tensor>> },
  options: { readonly appends?: boolean; readonly form?: 'words' | 'float32' } = {},
): Promise<void> {
  const random = new Random(seed)
  const draw = (shapes: Shapes): NamedNumbers =>
    Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, normal(random, shape)]))
  const [fed, frozen] = [draw(inputs), draw(weights)]
  const usual = open(graph, frozen, options)
  const tensors = (numbers: NamedNumbers): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(numbers).map(([name, { data, shape }]) => [name, float32(data.slice(), shape)]))
  const expected = await runOnce(usual, { ...tensors(fed), ...fixed })
  await usual.dispose()
  for (const side of ['before', 'behind'] as const) {
    const beside = (numbers: NamedNumbers): NamedNumbers =>
      Object.fromEntries(
        Object.entries(numbers).map(([name, { data, shape }]) => [name, { data: guarded(data, side), shape }]),
      )
    const program = open(graph, beside(frozen), options)
    const inside = Object.entries(beside(fed)).map(([name, { data, shape }]) => [name, float32(data, shape)] as const)
    const got = await runOnce(program, { ...Object.fromEntries(inside), ...fixed })
    for (const [name, values] of Object.entries(expected)) assertSame(name, got[name], values)
    await program.dispose()
  }
}

for (const width of [8, 24, 40]) {
  test(`rows of ${width} numbers: words, layer norm, gelu, sums, factors, copies and fetched rows`, {
    skip,
  }, async () => {
    const g = new GraphBuilder()
    const x = g.input('x', ['R', width])
    const product = g.linear(x, g.weight('w', [width, 17]), g.weight('b', [17]))
    const whole = g.linear(x, g.weight('v', [width, width]), null)
    const graph = makeGraph({
      product,
      added: g.add(g.scale(x, 2), whole),
      norm: g.layerNorm(x, g.weight('scale', [width]), g.weight('shift', [width]), 1e-5),
      gelu: g.gelu(x),
      exact: g.exactGelu(x),
      sum: g.add(x, g.input('y', ['R', width])),
      turned: g.transpose(g.reshape(x, [1, 'R', width]), [1, 0, 2]),
      rows: g.gather(x, g.input('at', ['N'], 'int32')),
      words: g.gather(g.weight('table', [9, width]), g.input('ids', ['N'], 'int32')),
      part: g.split(x, 1, [width - 8, 8])[1] as Value,
    })
    const weights = { w: [width, 17], b: [17], v: [width, width], scale: [width], shift: [width], table: [9, width] }
    for (const rows of [1, 7]) {
      const fixed = { at: integers(rows - 1, 0), ids: integers(8, 0) }
      await assertInside(graph, { inputs: { x: [rows, width], y: [rows, width] }, weights, fixed })
    }
  })
}

for (const width of [8, 24, 72]) {
  test(`rows of ${width} numbers: gradients of layer norm and of gelu, and rows that are added`, { skip }, async () => {
    const g = new GraphBuilder()
    const [x, ct] = [g.input('x', ['R', width]), g.input('ct', ['R', width])]
    const graph = makeGraph({
      norm: g.layerNormGrad([x, g.weight('scale', [width]), g.weight('shift', [width])], ct, 1e-5),
      gelu: g.geluGrad(x, ct),
      exact: g.exactGeluGrad(x, ct),
      added: g.scatterAdd(x, g.input('at', ['R'], 'int32'), [3, width]),
    })
    for (const rows of [1, 7]) {
      const fixed = { at: integers(...Array.from({ length: rows }, (_, i) => i % 3)) }
      const [inputs, weights] = [
        { x: [rows, width], ct: [rows, width] },
        { scale: [width], shift: [width] },
      ]
      await assertInside(graph, { inputs, weights, fixed }, { form: 'float32' })
    }
  })
}

for (const headDim of [8, 40, 72]) {
  test(`attention with heads of ${headDim}, with what it appends, over pasts that are full and such as are not`, {
    skip,
  }, async () => {
    const width = 2 * headDim
    const g = new GraphBuilder()
    const rows = (name: string): Value => g.input(name, ['B', 'T', width])
    const past = [
      g.transpose(g.input('pastKey', ['B', 2, 'P', headDim]), [0, 1, 3, 2]),
      g.input('pastValue', ['B', 2, 'P', headDim]),
      g.input('lengths', ['B'], 'int32'),
    ] as const
    const [q, k, v, keyLengths] = [rows('q'), rows('k'), rows('v'), g.input('keyLengths', ['B'], 'int32')]
    const causal = makeGraph({ y: g.attention([q, k, v, ...past], 2) })
    const cross = makeGraph({ y: g.crossAttention([q, ...past, k, v, keyLengths], 2) })
    const alone = makeGraph({ y: g.crossAttention([q, ...past], 2) })
    for (const [queries, room, lengths] of [
      [1, 9, [9, 3]],
      [5, 16, [11, 16]],
      [17, 17, [0, 1]],
      [66, 67, [67, 64]],
    ] as const) {
      const [fresh, cache] = [
        [2, queries, width],
        [2, 2, room, headDim],
      ] as const
      const [ofPast, ofNew] = [
        { pastKey: cache, pastValue: cache },
        { q: fresh, k: fresh, v: fresh },
      ]
      const fixed = { lengths: integers(...lengths) }
      await assertInside(causal, { inputs: { ...ofPast, ...ofNew }, fixed }, { appends: true })
      const beside = { ...fixed, keyLengths: integers(queries, 1) }
      await assertInside(cross, { inputs: { ...ofPast, ...ofNew }, fixed: beside })
      const seen = { lengths: integers(room, 1) }
      await assertInside(alone, { inputs: { ...ofPast, q: fresh }, fixed: seen })
    }
  })
}

for (const headDim of [8, 40]) {
  test(`in float32: attention with heads of ${headDim} and its gradients, over pasts of any width and of either order`, {
    skip,
  }, async () => {
    const width = 2 * headDim
    for (const isTurned of [false, true]) {
      const g = new GraphBuilder()
      const rows = (name: string): Value => g.input(name, ['B', 'T', width])
      const pastKey = isTurned
        ? g.transpose(g.input('pastKey', ['B', 2, 'P', headDim]), [0, 1, 3, 2])
        : g.input('pastKey', ['B', 2, headDim, 'P'])
      const past = [pastKey, g.input('pastValue', ['B', 2, 'P', headDim]), g.input('lengths', ['B'], 'int32')] as const
      const [q, k, v, ct, keyLengths] = [...['q', 'k', 'v', 'ct'].map(rows), g.input('keyLengths', ['B'], 'int32')]
      const own = [q, k, v, ...past] as unknown as Parameters<GraphBuilder['attentionGrad']>[0]
      const cross = [q, ...past, k, v, keyLengths] as unknown as Parameters<GraphBuilder['crossAttentionGrad']>[0]
      const graph = makeGraph({
        y: g.attention(own, 2),
        crossed: g.crossAttention(cross, 2),
        ...Object.fromEntries(
          [...g.attentionGrad(own, ct as Value, 2), ...g.crossAttentionGrad(cross, ct as Value, 2)].map((each, i) => [
            `d${i}`,
            isTurned && (i === 3 || i === 6) ? g.transpose(each, [0, 1, 3, 2]) : each,
          ]),
        ),
      })
      for (const [queries, room] of [
        [1, 1],
        [5, 16],
        [17, 7],
      ] as const) {
        const fresh = [2, queries, width]
        const value = [2, 2, room, headDim]
        const pastKeyShape = isTurned ? value : [2, 2, headDim, room]
        const inputs = { q: fresh, k: fresh, v: fresh, ct: fresh, pastKey: pastKeyShape, pastValue: value }
        const fixed = { lengths: integers(room, 1), keyLengths: integers(queries, 1) }
        await assertInside(graph, { inputs, fixed }, { form: 'float32' })
      }
    }
  })
}

for (const vocabulary of [7, 19, 48]) {
  test(`in float32: products with what is frozen and what is not, and cross-entropy over ${vocabulary} words`, {
    skip,
  }, async () => {
    const g = new GraphBuilder()
    const x = g.input('x', ['R', 24])
    const [table, bias] = [g.weight('table', [vocabulary, 24]), g.weight('bias', [vocabulary])]
    const labels = g.input('labels', ['R'], 'int32')
    const graph = makeGraph({
      logits: g.linear(x, table, bias, { transposed: true }),
      product: g.linear(x, g.input('w', [24, vocabulary]), null),
      turned: g.linear(x, g.input('u', [vocabulary, 24]), null, { transposed: true }),
      added: g.add(g.linear(x, g.input('square', [24, 24]), null), g.scale(x, 2)),
      losses: g.crossEntropy([x, table, labels, bias], 0.1),
      gradient: g.crossEntropyGrad([x, table, labels, bias], g.input('ct', ['R']), 0.1),
    })
    const weights = { table: [vocabulary, 24], bias: [vocabulary] }
    for (const rows of [1, 7, 13]) {
      const inputs = { x: [rows, 24], w: [24, vocabulary], u: [vocabulary, 24], square: [24, 24], ct: [rows] }
      const fixed = { labels: integers(...Array.from({ length: rows }, (_, i) => (i % 2) * (vocabulary - 1))) }
      await assertInside(graph, { inputs, weights, fixed }, { form: 'float32' })
    }
  })
}

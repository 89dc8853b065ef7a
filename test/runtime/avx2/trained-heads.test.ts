// Cross-entropy over a frozen table with its gradient, and rows that lie apart, against the reference.
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Node } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import {
  assertNear,
  assertSame,
  integers,
  normal,
  open,
  reference,
  runOnce,
  seed,
  skip,
  type NamedNumbers,
} from './run-graph.ts'

const tolerance = 1e-5

async function check(what: string, graph: Graph, weights: NamedNumbers, draws: readonly Feeds[]): Promise<void> {
  const [one, three] = [
    open(graph, weights, { form: 'float32' }),
    open(graph, weights, { form: 'float32', threads: 3 }),
  ] as const
  for (const feeds of draws) {
    const [got, several] = [await runOnce(one, feeds), await runOnce(three, feeds)]
    for (const [name, values] of Object.entries(reference(graph, feeds, weights))) {
      const largest = Math.max(...Array.from(values, Math.abs))
      // A loss is the difference of two numbers of some units, however small it is.
      const scale = name === 'losses' ? Math.max(1, largest) : largest
      assertNear(`${what}, ${name}`, got[name], values, () => tolerance * scale)
      assertSame(`${what}, ${name}, three threads`, several[name], got[name])
    }
  }
  await Promise.all([one.dispose(), three.dispose()])
}

/** Less than a vector, whole vectors but no panel, whole panels, and one column more. */
for (const vocabulary of [5, 24, 48, 97, 129]) {
  test(`a vocabulary of ${vocabulary}: losses and gradients, each alone and both, with bias and smoothing and without`, {
    skip,
  }, async () => {
    const random = new Random(seed + vocabulary)
    const weights = { table: normal(random, [vocabulary, 40]), bias: normal(random, [vocabulary]) }
    for (const hasBias of [false, true]) {
      for (const smoothing of [0, 0.1]) {
        for (const wanted of ['losses', 'gradient', 'both', 'two gradients'] as const) {
          const g = new GraphBuilder()
          const inputs = [
            g.input('hidden', ['R', 40]),
            g.weight('table', [vocabulary, 40]),
            g.input('labels', ['R'], 'int32'),
            ...(hasBias ? [g.weight('bias', [vocabulary])] : []),
          ] as unknown as Node<'crossEntropy'>['inputs']
          const ct = g.input('ct', ['R'])
          const graph = makeGraph({
            ...(wanted !== 'gradient' && { losses: g.crossEntropy(inputs, smoothing) }),
            ...(wanted !== 'losses' && { gradient: g.crossEntropyGrad(inputs, ct, smoothing) }),
            ...(wanted === 'two gradients' && {
              other: g.crossEntropyGrad(inputs, g.input('otherCt', ['R']), smoothing),
            }),
          })
          const draws = [1, 8, 19].map((rows) => ({
            // Logits of some units.
            hidden: normal(random, [rows, 40], 0.3),
            // Labels at both ends among them.
            labels: integers(
              ...Array.from({ length: rows }, (_, i) => [vocabulary - 1, 0][i] ?? random.below(vocabulary)),
            ),
            ...(wanted !== 'losses' && { ct: normal(random, [rows]) }),
            ...(wanted === 'two gradients' && { otherCt: normal(random, [rows]) }),
          }))
          await check(`bias ${hasBias}, smoothing ${smoothing}, ${wanted}`, graph, weights, draws)
        }
      }
    }
  })
}

/** Rows of whole pages lie a line further apart, unless they are outputs: every kernel meets both. */
for (const width of [1024, 2048]) {
  test(`rows of ${width} numbers lie apart on the way through products, norms, gelu, sums and their gradients`, {
    skip,
  }, async () => {
    const random = new Random(seed + width)
    const shapes = { up: [16, width], upBias: [width], down: [width, 16], scale: [width], shift: [width] }
    const weights = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, normal(random, shape, name === 'down' ? 0.05 : 1)]),
    )
    for (const kind of ['gelu', 'exactGelu'] as const) {
      const g = new GraphBuilder()
      const [scale, shift] = [g.weight('scale', [width]), g.weight('shift', [width])]
      const fed = g.input('r', ['R', width])
      const up = g.linear(g.input('x', ['R', 16]), g.weight('up', [16, width]), g.weight('upBias', [width]))
      const inner = g[kind](up)
      const scaled = g.mul(inner, g.constant(0.5))
      // What is fed lies behind each other, what was made does not.
      const sum = g.add(scaled, fed)
      const norm = g.layerNorm(sum, scale, shift, 1e-5)
      const ct = g.linear(g.input('ct', ['R', 16]), g.weight('down', [width, 16]), null, { transposed: true })
      const dNorm = g.layerNormGrad([sum, scale, shift], ct, 1e-5)
      const dInner = kind === 'gelu' ? g.geluGrad(up, dNorm) : g.exactGeluGrad(up, dNorm)
      const rows = g.gather(sum, g.input('at', ['N'], 'int32'))
      const graph = makeGraph({
        y: g.linear(norm, g.weight('down', [width, 16]), null),
        dx: g.linear(dInner, g.weight('up', [16, width]), null, { transposed: true }),
        // An output that goes on being used.
        sum,
        geluOfFed: g[kind](fed),
        gradOfFed: kind === 'gelu' ? g.geluGrad(fed, dNorm) : g.exactGeluGrad(fed, dNorm),
        rows: g.linear(rows, g.weight('down', [width, 16]), null),
        added: g.linear(
          g.scatterAdd(dNorm, g.input('to', ['R'], 'int32'), [3, width]),
          g.weight('down', [width, 16]),
          null,
        ),
        reshaped: g.reshape(dInner, ['R', 2, width / 2]),
        parts: g.split(dInner, 1, [width - 8, 8])[1]!,
      })
      const draws = [1, 7, 40].map((rows) => ({
        x: normal(random, [rows, 16]),
        r: normal(random, [rows, width]),
        ct: normal(random, [rows, 16]),
        at: integers(rows - 1, 0, 0),
        to: integers(...Array.from({ length: rows }, (_, i) => i % 3)),
      }))
      await check(kind, graph, weights, draws)
    }
  })
}

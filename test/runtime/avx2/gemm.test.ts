// Products in float32: whole tiles, panels and blocks, what is left of them, and the same bits from any number of threads.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import { Random } from '../../../src/random/random.ts'
import { assertNear, assertSame, normal, open, reference, runOnce, seed, skip, type NamedNumbers } from './run-graph.ts'

const roundOff = 2 ** -24

/** Whole tiles of six rows and what is left of them; several chunks of rows. */
const counts = [1, 2, 3, 4, 5, 6, 7, 13, 240]
/** Blocks are of 512 at the most: less, as much, two and three of them, and such as no eight divide. */
const inners = [1, 7, 8, 64, 67, 512, 520, 1030]
/** Panels are of sixteen columns, and four of them a chunk. */
const widths = [1, 15, 16, 17, 64, 72, 130]

interface Layer {
  readonly inner: number
  readonly columns: number
  readonly transposed: boolean
  readonly hasBias: boolean
  /** Whether something is added to what comes out. */
  readonly isAdded: boolean
}

const layersOf = (inner: number): Layer[] =>
  widths.flatMap((columns, i) =>
    [false, true].map((transposed, j) => ({
      inner,
      columns,
      transposed,
      hasBias: (i + j) % 2 === 0,
      isAdded: i % 3 === 0,
    })),
  )

function graphOf({ inner, columns, transposed, hasBias, isAdded }: Layer): Graph {
  const g = new GraphBuilder()
  const w = g.weight('w', transposed ? [columns, inner] : [inner, columns])
  const product = g.linear(g.input('x', ['R', inner]), w, hasBias ? g.weight('b', [columns]) : null, { transposed })
  // What is fed is not added on the way out: so it comes by way of the graph.
  return makeGraph({ y: isAdded ? g.add(product, g.scale(g.input('r', ['R', columns]), 2)) : product })
}

for (const inner of inners) {
  test(`products of ${inner} numbers are sums in float32, whatever is left of tiles, panels and blocks`, {
    skip,
  }, async () => {
    const random = new Random(seed)
    for (const layer of layersOf(inner)) {
      // Sums are taken eight at a time where something is added by itself.
      if (layer.isAdded && layer.columns % 8 !== 0) continue
      await check(layer, random)
    }
  })
}

async function check(layer: Layer, random: Random): Promise<void> {
  const { inner, columns, transposed } = layer
  const weights: NamedNumbers = {
    w: normal(random, transposed ? [columns, inner] : [inner, columns]),
    b: normal(random, [columns]),
  }
  const graph = graphOf(layer)
  const one = open(graph, weights, { form: 'float32' })
  const three = open(graph, weights, { form: 'float32', threads: 3 })
  for (const count of counts) {
    const x = normal(random, [count, inner])
    const feeds = layer.isAdded ? { x, r: normal(random, [count, columns]) } : { x }
    const got = await runOnce(one, feeds)
    const expected = reference(graph, feeds, weights)
    // Each of the sums before the last, whose squares add up to about so much, may be rounded.
    const bound = (inner + 4) * roundOff * 6 * (Math.sqrt(inner) + 4)
    const what = `${JSON.stringify(layer)}, ${count} rows`
    assertNear(what, got['y'], expected['y'], () => bound)
    assertSame(`${what}, three threads`, (await runOnce(three, feeds))['y'], got['y'])
  }
  await Promise.all([one.dispose(), three.dispose()])
}

test('a run that is watched answers the same bits, and tells of each operation in order', { skip }, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const hidden = g.gelu(g.linear(g.input('x', ['R', 64]), g.weight('w', [64, 32]), g.weight('b', [32])))
  const graph = makeGraph({ y: g.linear(hidden, g.weight('v', [48, 32]), null, { transposed: true }) })
  const weights = { w: normal(random, [64, 32]), b: normal(random, [32]), v: normal(random, [48, 32]) }
  const feeds = { x: normal(random, [19, 64]) }
  const seen: string[] = []
  const watch = (kernel: string, ms: number): void => {
    assert.ok(ms > 0)
    seen.push(kernel)
  }
  const [plain, watched] = [
    open(graph, weights, { form: 'float32' }),
    open(graph, weights, { form: 'float32', watch, threads: 2 }),
  ]
  assertSame('y', (await runOnce(watched, feeds))['y'], (await runOnce(plain, feeds))['y'])
  assert.deepEqual(seen, ['gemm', 'gelu', 'gemm'])
  await Promise.all([plain.dispose(), watched.dispose()])
})

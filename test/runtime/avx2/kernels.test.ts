// Kernels of rows and of single numbers against the reference: what rounds is near, and what only moves numbers is the same.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import { unsupported } from '../../../src/runtime/avx2/supported.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import { float32, int32 } from '../../../src/tensor/tensor.ts'
import { assertNear, assertSame, integers, normal, open, runBoth, seed, skip, type NamedNumbers } from './run-graph.ts'

const roundOff = 2 ** -24
/** The smallest float32 above 0. */
const least = 2 ** -149

/** Every output of a graph that only moves numbers is the reference's to the bit. */
async function assertMoved(graph: Graph, feeds: Feeds, weights: NamedNumbers = {}): Promise<void> {
  const { got, expected } = await runBoth(graph, feeds, weights)
  for (const name of Object.keys(expected)) assertSame(name, got[name], expected[name])
}

for (const width of [8, 24, 192, 1040]) {
  test(`layer norm of ${width} numbers, also of equal ones, of tiny ones and of such as are far from 0`, {
    skip,
  }, async () => {
    const random = new Random(seed)
    const g = new GraphBuilder()
    const [scale, shift] = [g.weight('scale', [width]), g.weight('shift', [width])]
    const graph = makeGraph({ y: g.layerNorm(g.input('x', ['B', 'T', width]), scale, shift, 1e-5) })
    const weights = { scale: normal(random, [width]), shift: normal(random, [width]) }
    for (const [batch, positions] of [
      [1, 1],
      [3, 11],
    ] as const) {
      const x = normal(random, [batch, positions, width])
      const row = (i: number): Float32Array => x.data.subarray(i * width, (i + 1) * width)
      const factors = batch === 1 ? [] : [1e-3, 1e3, 1e-8]
      for (const [i, factor] of factors.entries()) row(i + 1).set(row(i + 1).map((value) => factor * value))
      if (batch > 1) {
        row(5).fill(3.25)
        row(6).set(row(6).map((value) => value + 100))
      }
      const { got, expected } = await runBoth(graph, { x }, weights)
      // A mean is off by what adding up rounds, which counts against σ; so does the variance. Sums have width / 8 + 3 terms one after the other.
      const terms = width / 8 + 8
      const rows = Array.from({ length: batch * positions }, (_, i) => {
        const mean = row(i).reduce((sum, each) => sum + each, 0) / width
        const sigma = Math.sqrt(row(i).reduce((sum, each) => sum + (each - mean) ** 2, 0) / width + 1e-5)
        return { mean, sigma, largest: row(i).reduce((most, each) => Math.max(most, Math.abs(each)), 0) }
      })
      assertNear('y', got['y'], expected['y'], (i) => {
        const { mean, sigma, largest } = rows[Math.floor(i / width)] as (typeof rows)[number]
        const off = (2 * largest + 2 * Math.abs((x.data[i] as number) - mean)) / sigma
        const [size, shifted] = [weights.scale, weights.shift].map(({ data }) => Math.abs(data[i % width] as number))
        return roundOff * ((terms * off + 1) * (size as number) + 2 * (shifted as number))
      })
    }
  })
}

/** Both signs of what is tiny, usual and large. */
const sweep = [0, -0, 1e-30, -1e-30, 1e-40, -1e-40, least, -least, 30, -30, 100, -100, 1e4, -1e4, 1e15, -1e15].concat(
  Array.from({ length: 1000 }, (_, i) => (i - 500) / 40),
)

test('gelu in its tanh form, of numbers of every size', { skip }, async () => {
  const g = new GraphBuilder()
  const x = float32(Float32Array.from(sweep), [sweep.length / 8, 8])
  const { got, expected } = await runBoth(makeGraph({ y: g.gelu(g.input('x', ['R', 8])) }), { x })
  // x / (1 + e): an exponent v is off by some roundings of it, and |x|·v·e/(1 + e)² is below |x|/2.
  assertNear('y', got['y'], expected['y'], (i) => 4 * roundOff * Math.abs(x.data[i] as number) + least)
  assertSame('zeros', got['y']?.slice(0, 2), Float32Array.of(0, -0))
})

test('gelu with the normal distribution, of numbers of every size', { skip }, async () => {
  const g = new GraphBuilder()
  const x = float32(Float32Array.from(sweep), [sweep.length / 8, 8])
  const { got, expected } = await runBoth(makeGraph({ y: g.exactGelu(g.input('x', ['R', 8])) }), { x })
  // Half of what the formula for erfc is off, which is 1.5e-7 for all of its arguments, and some roundings.
  assertNear('y', got['y'], expected['y'], (i) => (0.75e-7 + 4 * roundOff) * Math.abs(x.data[i] as number) + least)
})

test('what is no number stays none in gelu, in layer norm, in sums and by factors, and in its own row alone', {
  skip,
}, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const x = g.input('x', [5, 24])
  const norm = g.layerNorm(x, g.weight('scale', [24]), g.weight('shift', [24]), 1e-5)
  const graph = makeGraph({ gelu: g.gelu(x), exact: g.exactGelu(x), add: g.add(x, x), scale: g.scale(x, 3), norm })
  const data = normal(random, [5, 24]).data
  data[2 * 24 + 13] = NaN
  const { got } = await runBoth(
    graph,
    { x: float32(data, [5, 24]) },
    { scale: normal(random, [24]), shift: normal(random, [24]) },
  )
  for (const [name, values] of Object.entries(got)) {
    values.forEach((value, i) => {
      const isOdd = name === 'norm' ? Math.floor(i / 24) === 2 : i === 2 * 24 + 13
      assert.equal(Number.isNaN(value), isOdd, `${name}[${i}] is ${value}`)
    })
  }
})

test('sums and factors are those of float32 to the bit, of one chunk and of several, whole and not', {
  skip,
}, async () => {
  const random = new Random(seed)
  for (const count of [8, 1024, 1032, 5000]) {
    const g = new GraphBuilder()
    const [x, y] = [g.input('x', ['R', 8]), g.input('y', ['R', 8])]
    const graph = makeGraph({
      sum: g.add(x, y),
      twice: g.add(x, x),
      scaled: g.scale(x, 0.1),
      left: g.mul(g.constant(-7.3), y),
    })
    const feeds = { x: normal(random, [count / 8, 8]), y: normal(random, [count / 8, 8], 1e4) }
    const { got } = await runBoth(graph, feeds)
    const [a, b] = [feeds.x.data, feeds.y.data]
    assertSame(
      `sum of ${count}`,
      got['sum'],
      a.map((value, i) => value + (b[i] as number)),
    )
    assertSame(
      `twice ${count}`,
      got['twice'],
      a.map((value) => 2 * value),
    )
    assertSame(
      `${count} scaled`,
      got['scaled'],
      a.map((value) => value * Math.fround(0.1)),
    )
    assertSame(
      `factor of ${count} on the left`,
      got['left'],
      b.map((value) => value * Math.fround(-7.3)),
    )
  }
})

test('rows of a table, and of what several axes number, are fetched as they are', { skip }, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const [ids, at] = [g.input('ids', ['B', 'T'], 'int32'), g.input('at', ['R'], 'int32')]
  const table = g.weight('table', [50, 40])
  const graph = makeGraph({ words: g.gather(table, ids), rows: g.gather(g.input('x', ['B', 'T', 24]), at) })
  const [numbers, last] = [Int32Array.from({ length: 33 }, () => random.below(50)), 32]
  numbers[0] = 49
  const feeds = { ids: int32(numbers, [3, 11]), at: integers(last, 0, last, 7), x: normal(random, [3, 11, 24]) }
  await assertMoved(graph, feeds, { table: normal(random, [50, 40]) })
})

test('parts of the last axis and of the first, and what is made of them', { skip }, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const x = g.input('x', [4, 'T', 48])
  const [a, b, c] = g.split(x, 2, [8, 16, 24]) as [Value, Value, Value]
  const [first, rest] = g.split(x, 0, [1, 3]) as [Value, Value]
  const [inner] = g.split(c, 2, [16, 8]) as [Value, Value]
  const graph = makeGraph({
    a,
    c,
    inner,
    sum: g.add(b, inner),
    rest,
    // Rows that lie apart, of which each becomes two.
    halves: g.reshape(b, [4, 'T', 2, 8]),
    turned: g.transpose(c, [1, 0, 2]),
    part: g.split(rest, 2, [40, 8])[1] as Value,
    joined: g.concat([rest, first, rest], 0),
  })
  for (const positions of [1, 5]) {
    const feeds = { x: normal(random, [4, positions, 48]) }
    const { got, expected } = await runBoth(graph, feeds)
    for (const [name, values] of Object.entries(expected)) assertSame(name, got[name], Float32Array.from(values))
  }
})

test('axes in other orders, the last one kept: two, three and four that move, and heads before positions', {
  skip,
}, async () => {
  const random = new Random(seed)
  for (const [shape, permutation] of [
    [
      [3, 5, 8],
      [1, 0, 2],
    ],
    [
      [3, 1, 8],
      [1, 0, 2],
    ],
    [
      [2, 3, 4, 16],
      [2, 1, 0, 3],
    ],
    [
      [2, 3, 4, 16],
      [1, 2, 0, 3],
    ],
    [
      [2, 3, 4, 16],
      [0, 1, 2, 3],
    ],
    // Keys and values of both layers, by head (`keys-by-position.ts`).
    [
      [4, 2, 7, 3, 8],
      [0, 1, 3, 2, 4],
    ],
    [
      [4, 1, 7, 3, 40],
      [0, 1, 3, 2, 4],
    ],
    [
      [2, 3, 2, 3, 8],
      [2, 3, 0, 1, 4],
    ],
  ] as const) {
    const g = new GraphBuilder()
    const graph = makeGraph({ y: g.transpose(g.input('x', shape), permutation) })
    await assertMoved(graph, { x: normal(random, shape) })
  }
})

test('rows of batches under each other and apart again, also where a batch has none', { skip }, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const [x, y] = [g.input('x', ['B', 'T', 16]), g.input('z', ['C', 1, 16])]
  const joined = g.joinRows([x, y], 'N')
  const [again, swapped] = g.splitRows(g.scale(joined, 2), [
    ['C', 1, 16],
    ['B', 'T', 16],
  ]) as [Value, Value]
  const graph = makeGraph({ joined, again, swapped, taken: g.gather(joined, g.input('at', ['R'], 'int32')) })
  for (const [batch, positions, others] of [
    [2, 3, 4],
    [0, 3, 4],
    [2, 3, 0],
    [1, 1, 1],
  ] as const) {
    const last = batch * positions + others - 1
    const feeds = {
      x: normal(random, [batch, positions, 16]),
      z: normal(random, [others, 1, 16]),
      at: integers(last, 0),
    }
    const { got, expected } = await runBoth(graph, feeds)
    for (const [name, values] of Object.entries(expected)) assertSame(name, got[name], Float32Array.from(values))
  }
})

test('what there is no kernel for is named, and no program is made of it', { skip }, () => {
  const g = new GraphBuilder()
  const x = g.input('x', ['R', 8])
  const linear = (inner: number): Value => g.linear(g.input('x', ['R', inner]), g.weight('w', [inner, 8]), null)
  const attention = (headDim: number): Value => {
    const rows = ['q', 'k', 'v'].map((name) => g.input(name, ['B', 'T', 2 * headDim])) as [Value, Value, Value]
    const pastKey = g.transpose(g.input('pastKey', [1, 2, 'P', headDim]), [0, 1, 3, 2])
    const past = [pastKey, g.input('pastValue', [1, 2, 'P', headDim]), g.input('lengths', [1], 'int32')] as const
    return g.attention([...rows, ...past], 2)
  }
  const named: readonly (readonly [string | null, Value])[] = [
    ['heads of 12 numbers', attention(12)],
    ['heads of 4 numbers', attention(4)],
    [null, attention(24)],
    ['tanh', g.tanh(x)],
    ['sumTo', g.sumTo(x, [8])],
    ['linear with what is not frozen', g.linear(x, g.input('w', [8, 8]), null)],
    ['linear with a bias that is not frozen', g.linear(x, g.weight('w', [8, 8]), g.input('b', [8]))],
    ['linear of 12 numbers', linear(12)],
    [null, linear(16)],
  ]
  for (const [reason, y] of named) assert.equal(unsupported(makeGraph({ y })), reason)
  assert.throws(() => open(makeGraph({ y: g.tanh(x) })), /no kernel for tanh/)
})

test('rows that cannot be copied 8 numbers at a time are refused before anything is copied', { skip }, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const x = g.input('x', ['R', 12])
  const product = g.linear(g.input('z', ['R', 8]), g.weight('w', [8, 12]), null)
  const feeds = { x: normal(random, [3, 12]), z: normal(random, [3, 8]) }
  for (const y of [
    g.joinRows([product, x], 'N'),
    g.transpose(g.reshape(product, [1, 'R', 12]), [1, 0, 2]),
    g.split(product, 1, [4, 8])[0] as Value,
    g.stack([x, x]),
  ]) {
    const program = open(makeGraph({ y, beside: product }), { w: normal(random, [8, 12]) })
    await assert.rejects(program.run(feeds), /numbers are not copied 8 at a time/)
    await program.dispose()
  }
})

// Gradients of gelu, of layer norm and of fetched rows by our machine code against the reference.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import { float32, int32 } from '../../../src/tensor/tensor.ts'
import { assertNear, assertSame, normal, open, runBoth, runOnce, seed, skip } from './run-graph.ts'

const roundOff = 2 ** -24
/** exp is that of −87 below it, and here it is multiplied by no more than this. */
const least = 1e-35

/** Both signs of what is tiny, usual and large, and closely where slopes bend. */
const sweep = [0, -0, 1e-30, -1e-30, 1e-40, -1e-40, 30, -30, 100, -100, 1e4, -1e4, 1e15, -1e15, 3e38, -3e38].concat(
  Array.from({ length: 4000 }, (_, i) => (i - 2000) / 133),
)

for (const [name, bound] of [
  // Roundings of a sum of two terms below 1.2, of which the exponential's are most.
  ['geluGrad', 8 * roundOff],
  // Half of what the formula for erfc is off, and as many.
  ['exactGeluGrad', 0.75e-7 + 4 * roundOff],
] as const) {
  test(`${name} of numbers of every size, with cotangents of both signs`, { skip }, async () => {
    const g = new GraphBuilder()
    const random = new Random(seed)
    const x = float32(Float32Array.from(sweep), [sweep.length / 8, 8])
    const ct = normal(random, x.shape)
    const graph = makeGraph({ y: g[name](g.input('x', ['R', 8]), g.input('ct', ['R', 8])) })
    const { got, expected } = await runBoth(graph, { x, ct }, {}, { form: 'float32' })
    assertNear('y', got['y'], expected['y'], (i) => bound * Math.abs(ct.data[i] as number) + least)
  })
}

for (const width of [8, 24, 192, 1040]) {
  test(`the gradient of layer norm of ${width} numbers, also of equal ones, of tiny ones and of such as are far from 0`, {
    skip,
  }, async () => {
    const random = new Random(seed)
    const g = new GraphBuilder()
    const [scale, shift] = [g.weight('scale', [width]), g.weight('shift', [width])]
    // Rows of both lie apart: they are parts of wider ones.
    const [x] = g.split(g.input('x', ['R', width + 8]), 1, [width, 8]) as [Value]
    const [, ct] = g.split(g.input('ct', ['R', width + 16]), 1, [16, width]) as [Value, Value]
    const graph = makeGraph({ y: g.layerNormGrad([x, scale, shift], ct, 1e-5) })
    const weights = { scale: normal(random, [width]), shift: normal(random, [width]) }
    const rows = 11
    const feeds = { x: normal(random, [rows, width + 8]), ct: normal(random, [rows, width + 16]) }
    const row = (i: number): Float32Array => feeds.x.data.subarray(i * (width + 8), i * (width + 8) + width)
    for (const [i, factor] of [1e-3, 1e3, 1e-8].entries()) row(i + 1).set(row(i + 1).map((value) => factor * value))
    row(5).fill(3.25)
    row(6).set(row(6).map((value) => value + 100))
    const { got, expected } = await runBoth(graph, feeds, weights, { form: 'float32' })
    // A mean is off by what adding up rounds, and so are the other sums; each counts against σ. Sums have width / 8 + 3 terms one after the other.
    const terms = width / 8 + 8
    const bounds = Array.from({ length: rows }, (_, r) => {
      const numbers = row(r)
      const mean = numbers.reduce((sum, each) => sum + each, 0) / width
      const sigma = Math.sqrt(numbers.reduce((sum, each) => sum + (each - mean) ** 2, 0) / width + 1e-5)
      const largest = numbers.reduce((most, each) => Math.max(most, Math.abs(each)), 0)
      const back = Array.from(weights.scale.data, (value, d) =>
        Math.abs(value * (feeds.ct.data[r * (width + 16) + 16 + d] as number)),
      )
      const size = Math.sqrt(back.reduce((sum, each) => sum + each ** 2, 0) / width)
      return { mean, sigma, off: 1 + largest / sigma, size, back }
    })
    assertNear('y', got['y'], expected['y'], (i) => {
      const [r, d] = [Math.floor(i / width), i % width]
      const { mean, sigma, off, size, back } = bounds[r] as (typeof bounds)[number]
      const away = Math.abs((row(r)[d] as number) - mean) / sigma
      return (roundOff / sigma) * (4 * (back[d] as number) + size * (1 + away) * (terms + 2) * off)
    })
  })
}

test('what is no number stays none in gradients of gelu, and in those of layer norm in its own row', {
  skip,
}, async () => {
  const random = new Random(seed)
  const g = new GraphBuilder()
  const [x, ct] = [g.input('x', [5, 24]), g.input('ct', [5, 24])]
  const norm = g.layerNormGrad([x, g.weight('scale', [24]), g.weight('shift', [24])], ct, 1e-5)
  const graph = makeGraph({ gelu: g.geluGrad(x, ct), exact: g.exactGeluGrad(x, ct), norm })
  const feeds = { x: normal(random, [5, 24]), ct: normal(random, [5, 24]) }
  feeds.x.data[2 * 24 + 13] = NaN
  feeds.ct.data[4 * 24 + 7] = NaN
  const weights = { scale: normal(random, [24]), shift: normal(random, [24]) }
  const { got } = await runBoth(graph, feeds, weights, { form: 'float32' })
  for (const [name, values] of Object.entries(got)) {
    values.forEach((value, i) => {
      const isOdd = name === 'norm' ? [2, 4].includes(Math.floor(i / 24)) : [2 * 24 + 13, 4 * 24 + 7].includes(i)
      assert.equal(Number.isNaN(value), isOdd, `${name}[${i}] is ${value}`)
    })
  }
})

test('rows are added where their numbers say, one after the other, whatever was there', { skip }, async () => {
  const random = new Random(seed)
  for (const width of [8, 40, 72, 264]) {
    const g = new GraphBuilder()
    const [, rows] = g.split(g.input('x', ['B', 'T', width + 8]), 2, [8, width]) as [Value, Value]
    const added = g.scatterAdd(rows, g.input('at', ['B', 'T'], 'int32'), ['N', width])
    const graph = makeGraph({ y: added, beside: g.scale(g.input('of', ['N', 8]), 2) })
    for (const threads of [1, 3]) {
      const program = open(graph, {}, { threads, form: 'float32' })
      for (const [batch, positions, goals] of [
        [2, 9, 5],
        [3, 1, 40],
        [0, 4, 3],
        [1, 30, 1],
      ] as const) {
        const numbers = Int32Array.from({ length: batch * positions }, () => random.below(goals))
        const x = normal(random, [batch, positions, width + 8])
        const feeds = { x, at: int32(numbers, [batch, positions]), of: normal(random, [goals, 8]) }
        const expected = new Float32Array(goals * width)
        numbers.forEach((goal, row) => {
          for (let d = 0; d < width; d++) {
            const at = goal * width + d
            expected[at] = (expected[at] as number) + (x.data[row * (width + 8) + 8 + d] as number)
          }
        })
        // A second time there are numbers where zeros are to be.
        await program.run(feeds)
        assertSame(`width ${width}`, (await runOnce(program, feeds))['y'], expected)
      }
      await program.dispose()
    }
  }
})

test('rows that are not taken 8 numbers at a time are refused', { skip }, () => {
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.scatterAdd(g.input('x', ['R', 12]), g.input('at', ['R'], 'int32'), [4, 12]) })
  assert.throws(() => open(graph, {}, { form: 'float32' }), /no kernel for scatterAdd of rows of 12 numbers/)
})

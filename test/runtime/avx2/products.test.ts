// Products of words: as near as ten bits of a weight and fifteen of a row's numbers allow, and exact where these bits suffice.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import { Random } from '../../../src/random/random.ts'
import type { Numbers } from '../../../src/runtime/avx2/weights.ts'
import { float32, type TensorData } from '../../../src/tensor/tensor.ts'
import { assertNear, assertSame, normal, open, reference, rowsOf, runBoth, runOnce, seed, skip } from './run-graph.ts'
import type { Float32Tensor } from './run-graph.ts'

/** From 0 to the largest magnitude of a column's block of so many weights, and of a row: all products of a block add up to an int32. */
const [weightSteps, rowSteps, blockInner] = [511, 16416, 256]
/** A row's largest magnitude counts for no less. */
const leastLargest = 1e-30
const roundOff = 2 ** -24

/** Whole tiles of six rows and what is left of them, and of chunks of 96. */
const counts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 96, 97, 200]
/** Of the most of them, those that are compared with the reference: the odd ones, and the beginning and the end of each chunk. */
const compared = [
  [0, 13],
  [91, 11],
  [187, 13],
] as const
/** Whole blocks and rests of them, with eight inputs that no pair of vectors fills. */
const inners = [8, 24, 256, 264, 592, 1040]
const widths = [1, 15, 16, 17, 50]

interface Layer {
  readonly inner: number
  readonly columns: number
  readonly transposed: boolean
  readonly hasBias: boolean
}

const layersOf = (inner: number): Layer[] =>
  widths.flatMap((columns) =>
    [false, true].map((transposed, i) => ({ inner, columns, transposed, hasBias: (i + columns) % 2 === 0 })),
  )

const weightShape = ({ inner, columns, transposed }: Layer): readonly number[] =>
  transposed ? [columns, inner] : [inner, columns]

function graphOf(layer: Layer): Graph {
  const g = new GraphBuilder()
  const bias = layer.hasBias ? g.weight('b', [layer.columns]) : null
  const { transposed } = layer
  return makeGraph({
    y: g.linear(g.input('x', ['R', layer.inner]), g.weight('w', weightShape(layer)), bias, { transposed }),
  })
}

const weightAt = ({ inner, columns, transposed }: Layer, k: number, column: number): number =>
  transposed ? column * inner + k : k * columns + column

/** What the magnitudes of some numbers add up to, the root of the sum of their squares, and the largest of them. */
interface Magnitudes {
  readonly sum: number
  readonly norm: number
  readonly largest: number
}

function magnitudesOf(numbers: readonly number[]): Magnitudes {
  let [sum, squares, largest] = [0, 0, 0]
  for (const each of numbers) {
    sum += Math.abs(each)
    squares += each * each
    largest = Math.max(largest, Math.abs(each))
  }
  return { sum, norm: Math.sqrt(squares), largest }
}

const blocksOf = (inner: number): readonly number[] =>
  Array.from({ length: Math.ceil(inner / blockInner) }, (_, block) => Math.min(blockInner, inner - block * blockInner))

/** Of each row, or column, its blocks. */
const magnitudesByBlock = (count: number, inner: number, at: (of: number, k: number) => number): Magnitudes[][] =>
  Array.from({ length: count }, (_, of) =>
    blocksOf(inner).map((size, block) =>
      magnitudesOf(Array.from({ length: size }, (_, k) => at(of, block * blockInner + k))),
    ),
  )

/**
 * How far off each sum may be. A number is off by half a step r of its row, a weight by half a step w of its block, a product so by
 * |x|·w/2 + |weight|·r/2 + rw/4; and float32 rounds once for each block, and for scales, the bias and what is added. Steps are
 * counted in float32: half of one is a hair more than that.
 */
function bounds(layer: Layer, x: TensorData, w: TensorData, bias: TensorData | null): Float64Array {
  const { inner, columns } = layer
  const rows = magnitudesByBlock(x.length / inner, inner, (row, k) => x[row * inner + k] as number)
  const weights = magnitudesByBlock(columns, inner, (column, k) => w[weightAt(layer, k, column)] as number)
  const sizes = blocksOf(inner)
  const bound = new Float64Array(rows.length * columns)
  const hair = 1 + 2 ** -7
  rows.forEach((row, i) => {
    const rowStep = (hair * Math.max(leastLargest, ...row.map(({ largest }) => largest))) / rowSteps
    weights.forEach((column, c) => {
      let [off, size] = [0, Math.abs(bias?.[c] ?? 0)]
      for (const [block, { sum, norm, largest }] of column.entries()) {
        const ofRow = row[block] as Magnitudes
        const step = largest / weightSteps
        off += (ofRow.sum * step + sum * rowStep) / 2 + ((sizes[block] as number) * rowStep * step) / 4
        // No sum of products is larger than the product of both norms.
        size += ofRow.norm * norm
      }
      bound[i * columns + c] = off + (sizes.length + 5) * roundOff * (size + off)
    })
  })
  return bound
}

/** Rows of all magnitudes, of one number, and with one that is far larger than the others. */
function oddRows(random: Random, rows: number, inner: number): Float32Tensor {
  const x = normal(random, [rows, inner])
  const row = (i: number): Float32Array => x.data.subarray(i * inner, (i + 1) * inner)
  const scale = (numbers: Float32Array, factor: number): void => numbers.set(numbers.map((value) => value * factor))
  for (let i = 0; i < rows; i++) scale(row(i), 10 ** ((i % 7) - 3))
  row(1).fill(0)
  row(3)[inner - 1] = 1e30
  scale(row(4), 1e-25)
  row(5)[0] = -1e37
  row(6).fill(-2.5)
  return x
}

for (const inner of inners) {
  test(`${inner} inputs: within half a step of each number, the same bits whatever the count of rows`, {
    skip,
  }, async () => {
    const random = new Random(seed + inner)
    const most = Math.max(...counts)
    for (const layer of layersOf(inner)) {
      const what = JSON.stringify(layer)
      const { columns, hasBias } = layer
      const graph = graphOf(layer)
      const [x, w, b] = [
        oddRows(random, most, inner),
        normal(random, weightShape(layer), 0.1),
        normal(random, [columns]),
      ]
      // A column without weights, where there are others.
      const empty = columns > 1 ? [columns - 1] : []
      for (const column of empty) for (let k = 0; k < inner; k++) w.data[weightAt(layer, k, column)] = 0
      const weights = { w, ...(hasBias && { b }) }
      const program = open(graph, weights)
      const { y } = await runOnce(program, { x })
      for (const [first, count] of compared) {
        const some = rowsOf(x, first, count)
        const bound = bounds(layer, some.data, w.data, hasBias ? b.data : null)
        const expected = reference(graph, { x: some }, weights)['y']
        assertNear(
          `${what}: rows from ${first} on`,
          y?.slice(first * columns, (first + count) * columns),
          expected,
          (i) => bound[i] as number,
        )
      }
      for (const column of empty) {
        const last = Number(hasBias && b.data[column])
        for (let i = 0; i < most; i++) assert.equal(y?.[i * columns + column], last, `${what}: row ${i}, all weights 0`)
      }
      assertSame(
        `${what}: a row of zeros`,
        y?.slice(columns, 2 * columns),
        hasBias ? b.data : new Float32Array(columns),
      )
      for (const count of counts) {
        const first = count % 3
        if (first + count > most) continue
        const part = await runOnce(program, { x: rowsOf(x, first, count) })
        assertSame(`${what}: ${count} rows`, part['y'], y?.slice(first * columns, (first + count) * columns))
      }
      await program.dispose()
    }
  })

  test(`${inner} inputs: numbers that are whole steps come out exactly, up to rounding in float32`, {
    skip,
  }, async () => {
    const random = new Random(seed + inner)
    for (const each of layersOf(inner)) {
      const layer = { ...each, hasBias: false }
      const rows = 13
      const x = wholeSteps(random, { rows, width: inner, steps: rowSteps })
      const w = normal(random, weightShape(layer))
      for (let column = 0; column < layer.columns; column++) {
        for (let first = 0; first < inner; first += blockInner) {
          const width = Math.min(blockInner, inner - first)
          const block = wholeSteps(random, { rows: 1, width, steps: weightSteps })
          for (let k = 0; k < width; k++) w.data[weightAt(layer, first + k, column)] = block[k] as number
        }
      }
      const { got, expected } = await runBoth(graphOf(layer), { x: float32(x, [rows, inner]) }, { w })
      const bound = (i: number): number => {
        const [row, column] = [Math.floor(i / layer.columns) * inner, i % layer.columns]
        const sums = blocksOf(inner).map((size, block) =>
          Array.from({ length: size }, (_, k) => block * blockInner + k).reduce(
            (sum, k) => sum + (x[row + k] as number) * (w.data[weightAt(layer, k, column)] as number),
            0,
          ),
        )
        return roundOff * (sums.length + 4) * sums.reduce((size, sum) => size + Math.abs(sum), 0)
      }
      assertNear(JSON.stringify(layer), got['y'], expected['y'], bound)
    }
  })
}

/** Whole numbers up to `steps`, which is among them, each row by a power of two. */
function wholeSteps(
  random: Random,
  { rows, width, steps }: { readonly rows: number; readonly width: number; readonly steps: number },
): Float32Array {
  const numbers = new Float32Array(rows * width)
  for (let row = 0; row < rows; row++) {
    const [factor, largest] = [2 ** (random.below(9) - 4), random.below(width)]
    for (let k = 0; k < width; k++) {
      const whole = k === largest ? (random.below(2) === 0 ? -steps : steps) : random.below(2 * steps + 1) - steps
      numbers[row * width + k] = whole * factor
    }
  }
  return numbers
}

test('the largest sums that integers must hold do not overflow: all numbers as large as they can be, of one sign', {
  skip,
}, async () => {
  const [rows, inner, columns] = [13, 592, 17]
  for (const [a, b] of [
    [1, 1],
    [-1, 1],
    [-3, -0.7],
  ] as const) {
    const g = new GraphBuilder()
    const graph = makeGraph({ y: g.linear(g.input('x', [rows, inner]), g.weight('w', [inner, columns]), null) })
    const [x, data] = [new Float32Array(rows * inner).fill(a), new Float32Array(inner * columns).fill(b)]
    const w: Numbers = { data, shape: [inner, columns] }
    const { got, expected } = await runBoth(graph, { x: float32(x, [rows, inner]) }, { w })
    assertNear(`${a} by ${b}`, got['y'], expected['y'], () => 8 * roundOff * inner * Math.abs(a * b))
  }
})

test('what a product is added to is added in the same step, on either side, with strides of its own', {
  skip,
}, async () => {
  const random = new Random(seed)
  for (const columns of [16, 24, 48]) {
    const [rows, inner] = [11, 40]
    const g = new GraphBuilder()
    const [x, both] = [g.input('x', [rows, inner]), g.input('both', [rows, 2 * columns])]
    const [left, right] = g.split(both, 1, [columns, columns])
    const product = (name: string) => g.linear(x, g.weight(name, [inner, columns]), null)
    const graph = makeGraph({
      a: g.add(left!, product('w')),
      b: g.add(product('w'), right!),
      y: product('w'),
      twice: g.add(product('w'), product('w')),
    })
    const feeds = { x: normal(random, [rows, inner]), both: normal(random, [rows, 2 * columns]) }
    const { got } = await runBoth(graph, feeds, { w: normal(random, [inner, columns]) })
    const sums = (side: number): Float32Array =>
      Float32Array.from(got['y'] as Float32Array, (value, i) => {
        const at = Math.floor(i / columns) * 2 * columns + side * columns + (i % columns)
        return value + (feeds.both.data[at] as number)
      })
    assertSame(`left of ${columns}`, got['a'], sums(0))
    assertSame(`right of ${columns}`, got['b'], sums(1))
    const twice = (got['y'] as Float32Array).map((value) => 2 * value)
    assertSame(`two products of ${columns}`, got['twice'], twice)
  }
})

test('a row with infinity or what is no number has no number for an answer, and touches no other row', {
  skip,
}, async () => {
  const random = new Random(seed)
  const [rows, inner, columns] = [13, 264, 17]
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.linear(g.input('x', [rows, inner]), g.weight('w', [inner, columns]), null) })
  const program = open(graph, { w: normal(random, [inner, columns]) })
  const x = normal(random, [rows, inner])
  const { y } = await runOnce(program, { x })
  for (const odd of [NaN, Infinity, -Infinity]) {
    const spoilt = float32(x.data.slice(), x.shape)
    spoilt.data[7 * inner + 5] = odd
    const { y: other } = await runOnce(program, { x: spoilt })
    const own = other?.slice(7 * columns, 8 * columns)
    assert.ok(
      own?.every((value) => Number.isNaN(value)),
      `that with ${odd}: ${own?.join()}`,
    )
    assertSame(`rows before that with ${odd}`, other?.slice(0, 7 * columns), y?.slice(0, 7 * columns))
    assertSame(`rows behind that with ${odd}`, other?.slice(8 * columns), y?.slice(8 * columns))
  }
  await program.dispose()
})

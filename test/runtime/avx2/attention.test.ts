// Attention by our machine code against the reference: heads of every size, pasts of every length, and what is put behind them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import { float32, type Tensor } from '../../../src/tensor/tensor.ts'
import { assertNear, assertSame, integers, normal, open, reference, runBoth, runOnce, seed, skip } from './run-graph.ts'
import type { Float32Tensor } from './run-graph.ts'

const roundOff = 2 ** -24
const heads = 2
/** Less than what is taken in one pass over the values, as much, and more; with vectors that fill no pair, and such as do. */
const headDims = [8, 16, 40, 64, 72, 128]
/** Positions are taken in blocks of 64: as many, one more or less, and two of them, with heads of these. */
const severalBlocks = [8, 72]
const longCausal = [
  [2, 130, [63, 64, 65, 72, 127, 128, 129, 130]],
  [70, 66, [66, 0]],
  [131, 3, [2]],
] as const
const longCross = [[2, 129, 130, [128, 129, 64, 65, 1], [64, 65, 128, 130, 63]]] as const

/** The largest norm of a head's numbers. */
function largestNorm({ data }: Float32Tensor, headDim: number): number {
  let largest = 0
  for (let at = 0; at < data.length; at += headDim) {
    const squares = data.subarray(at, at + headDim).reduce((sum, each) => sum + each ** 2, 0)
    largest = Math.max(largest, Math.sqrt(squares))
  }
  return largest
}

const largestOf = ({ data }: Float32Tensor): number => data.reduce((most, each) => Math.max(most, Math.abs(each)), 0)

/**
 * A score is a sum of headDim / 8 + 3 terms one after the other, each rounded, and no larger than the norms: so far are exponents
 * off, and that of exp, two units. What is weighted by them is off as much, twice because of their sum, and by its own rounding.
 */
function boundOf(
  { headDim, positions }: { readonly headDim: number; readonly positions: number },
  queries: Float32Tensor,
  keys: readonly Float32Tensor[],
  values: readonly Float32Tensor[],
): number {
  const [query, key] = [largestNorm(queries, headDim), Math.max(...keys.map((each) => largestNorm(each, headDim)))]
  const score = (headDim / 8 + 6) * roundOff * ((query * key) / Math.sqrt(headDim))
  return Math.max(...values.map(largestOf)) * (4 * score + (positions + 16) * roundOff)
}

/** Keys and values [batch, heads, room, headDim]. */
const pastPair = (random: Random, shape: readonly number[]): readonly [Float32Tensor, Float32Tensor] => [
  normal(random, shape),
  normal(random, shape),
]

/** Past keys as they are fed: by position, behind a transpose (`keys-by-position.ts`). */
function past(g: GraphBuilder, batch: 1 | 'B', headDim: number): readonly [key: Value, value: Value] {
  const key = g.input('pastKey', [batch, heads, 'P', headDim])
  return [g.transpose(key, [0, 1, 3, 2]), g.input('pastValue', [batch, heads, 'P', headDim])]
}

interface CausalShape {
  readonly headDim: number
  readonly pastBatch: 1 | 'B'
  readonly lengthsBatch: 1 | 'B'
}

/** Queries, keys and values are parts of one projection, as a layer makes them. */
function causal({ headDim, pastBatch, lengthsBatch }: CausalShape): Graph {
  const g = new GraphBuilder()
  const width = heads * headDim
  const [q, k, v] = g.split(g.input('qkv', ['B', 'T', 3 * width]), 2, [width, width, width]) as [Value, Value, Value]
  const lengths = g.input('lengths', [lengthsBatch], 'int32')
  return makeGraph({ y: g.attention([q, k, v, ...past(g, pastBatch, headDim), lengths], heads) })
}

for (const headDim of headDims) {
  test(`causal, heads of ${headDim}: rows whose pasts have different lengths, or none, and several blocks of queries`, {
    skip,
  }, async () => {
    const random = new Random(seed + headDim)
    const program = open(causal({ headDim, pastBatch: 'B', lengthsBatch: 'B' }))
    const graph = causal({ headDim, pastBatch: 'B', lengthsBatch: 'B' })
    for (const [queries, room, lengths] of [
      [1, 40, [40, 0, 7, 8, 9, 33]],
      [3, 5, [5, 0, 1]],
      [16, 24, [16, 24]],
      [17, 1, [0, 1]],
      [33, 20, [13, 20]],
      ...(severalBlocks.includes(headDim) ? longCausal : []),
    ] as const) {
      const batch = lengths.length
      const qkv = normal(random, [batch, queries, 3 * heads * headDim])
      const [pastKey, pastValue] = pastPair(random, [batch, heads, room, headDim])
      const feeds = { qkv, pastKey, pastValue, lengths: integers(...lengths) }
      const bound = boundOf({ headDim, positions: room + queries }, qkv, [qkv, pastKey], [qkv, pastValue])
      const { y } = await runOnce(program, feeds)
      assertNear(`${queries} queries, pasts [${lengths}]`, y, reference(graph, feeds)['y'], () => bound)
    }
    await program.dispose()
  })

  test(`cross, heads of ${headDim}: a past alone, keys beside it, and rows that see little of either`, {
    skip,
  }, async () => {
    const random = new Random(seed + headDim)
    const width = heads * headDim
    for (const beside of [false, true]) {
      const g = new GraphBuilder()
      const [q, [pk, pv]] = [g.input('q', ['B', 'T', width]), past(g, 'B', headDim)]
      const lengths = g.input('lengths', ['B'], 'int32')
      const [k, v] = [g.input('k', ['B', 'S', width]), g.input('v', ['B', 'S', width])]
      const all = [q, pk, pv, lengths] as const
      const graph = makeGraph({
        y: g.crossAttention(beside ? [...all, k, v, g.input('keyLengths', ['B'], 'int32')] : all, heads),
      })
      for (const [queries, room, sources, seen, keys] of [
        [1, 40, 21, [40, 3, 8, 17], [21, 1, 0, 8]],
        [5, 12, 9, [1, 12], [9, 2]],
        [35, 20, 70, [20, 11], [70, 33]],
        ...(severalBlocks.includes(headDim) ? longCross : []),
        ...(beside ? ([[4, 3, 12, [0, 2, 0], [12, 5, 1]]] as const) : []),
      ] as const) {
        const batch = seen.length
        const made = (positions: number): Float32Tensor => normal(random, [batch, positions, width])
        const [pastKey, pastValue] = pastPair(random, [batch, heads, room, headDim])
        const fresh = beside && { k: made(sources), v: made(sources), keyLengths: integers(...keys) }
        const feeds = { q: made(queries), pastKey, pastValue, lengths: integers(...seen), ...fresh }
        const [ofKeys, ofValues] = fresh
          ? [
              [pastKey, fresh.k],
              [pastValue, fresh.v],
            ]
          : [[pastKey], [pastValue]]
        const bound = boundOf({ headDim, positions: room + sources }, feeds.q, ofKeys, ofValues)
        const { got, expected } = await runBoth(graph, feeds)
        assertNear(`${queries} queries, [${seen}] of the past, [${keys}] beside`, got['y'], expected['y'], () => bound)
      }
    }
  })
}

test('one past and one length for all rows', { skip }, async () => {
  const random = new Random(seed)
  const headDim = 24
  const graph = causal({ headDim, pastBatch: 1, lengthsBatch: 1 })
  for (const [length, room] of [
    [11, 11],
    [9, 13],
    [0, 4],
  ] as const) {
    const qkv = normal(random, [3, 5, 3 * heads * headDim])
    const [pastKey, pastValue] = pastPair(random, [1, heads, room, headDim])
    const { got, expected } = await runBoth(graph, { qkv, pastKey, pastValue, lengths: integers(length) })
    const bound = boundOf({ headDim, positions: room + 5 }, qkv, [qkv, pastKey], [qkv, pastValue])
    assertNear(`${length} of ${room}`, got['y'], expected['y'], () => bound)
  }
})

test('equal scores, and such as are so far apart that all weight is on the largest, or on all that are as large', {
  skip,
}, async () => {
  const random = new Random(seed)
  const headDim = 16
  const graph = causal({ headDim, pastBatch: 'B', lengthsBatch: 'B' })
  for (const factor of [0, 2 ** -60, 1, 2 ** 20]) {
    const [qkv, pastValue] = [normal(random, [2, 9, 3 * heads * headDim]), normal(random, [2, heads, 19, headDim])]
    // Whole numbers: scores are exact.
    for (let i = 0; i < qkv.data.length; i += 3 * heads * headDim) {
      for (let d = 0; d < 2 * heads * headDim; d++)
        qkv.data[i + d] = (random.below(3) - 1) * (d < heads * headDim ? factor : 1)
    }
    const pastKey = normal(random, pastValue.shape)
    pastKey.data.forEach((_, i) => (pastKey.data[i] = random.below(3) - 1))
    const { got, expected } = await runBoth(graph, { qkv, pastKey, pastValue, lengths: integers(19, 10) })
    const value = Math.max(largestOf(qkv), largestOf(pastValue))
    assertNear(`factor ${factor}`, got['y'], expected['y'], () => value * (2 * headDim + 64) * roundOff)
  }
})

for (const headDim of [8, 64, 72]) {
  test(`heads of ${headDim}: new keys and values go behind the past, as far as there is room, and nothing else changes`, {
    skip,
  }, async () => {
    const random = new Random(seed + headDim)
    const graph = causal({ headDim, pastBatch: 'B', lengthsBatch: 'B' })
    const [plain, appending] = [open(graph), open(graph, {}, { appends: true })]
    const width = heads * headDim
    for (const [queries, room, lengths] of [
      [1, 12, [0, 3, 11, 12]],
      [5, 12, [0, 7, 8, 12, 11]],
      [37, 40, [0, 3, 4, 40, 20]],
      [17, 33, [16, 17]],
    ] as const) {
      const batch = lengths.length
      const qkv = normal(random, [batch, queries, 3 * width])
      // In the middle of more: what lies before and behind is another's.
      const around = 40
      const cache = (): Float32Array => normal(random, [2 * around + batch * width * room]).data
      const caches = [cache(), cache()] as const
      const fed = ([keys, values]: readonly Float32Array[]): Record<string, Tensor> => {
        const inside = (all: Float32Array): Tensor =>
          float32(all.subarray(around, all.length - around), [batch, heads, room, headDim])
        return { qkv, lengths: integers(...lengths), pastKey: inside(keys!), pastValue: inside(values!) }
      }
      const written = caches.map((each) => each.slice())
      const { y } = await runOnce(plain, fed(caches))
      assertSame('what attention answers', (await runOnce(appending, fed(written)))['y'], y)
      caches.forEach((before, kind) => {
        const expected = before.slice()
        for (const [row, length] of lengths.entries()) {
          for (let position = 0; position < Math.min(queries, room - length); position++) {
            for (let head = 0; head < heads; head++) {
              const from = (row * queries + position) * 3 * width + (kind + 1) * width + head * headDim
              const to = around + ((row * heads + head) * room + length + position) * headDim
              expected.set(qkv.data.subarray(from, from + headDim), to)
            }
          }
        }
        assertSame(
          `${queries} queries, lengths [${lengths}]: ${kind === 0 ? 'keys' : 'values'}`,
          written[kind],
          expected,
        )
      })
      assert.notDeepEqual(written, caches)
    }
    await Promise.all([plain.dispose(), appending.dispose()])
  })
}

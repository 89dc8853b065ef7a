// Shapes that fill several tiles, warps and blocks, which the small cases of the operations do not.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { inputsOf, makeGraph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import type { CudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { evaluate } from '../../../src/runtime/reference/reference.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import { sizeOf } from '../../../src/tensor/tensor.ts'
import { assertClose } from '../../golden/gpt2.ts'
import { attentionOf } from './attention-graphs.ts'
import { testCuda } from './runtimes.ts'

const { skip } = testCuda
const seed = Number(process.env['SEED'] ?? 7)
let opened: CudaRuntime | null = null

/** Sums of some hundreds of products in float32, relative to the largest result. */
const tolerance = 5e-6

type Integers = Readonly<Record<string, (random: Random) => number>>

async function agrees(
  build: (g: GraphBuilder) => Readonly<Record<string, Value>>,
  integers: Integers = {},
): Promise<void> {
  opened ??= testCuda.open({ checked: true })
  const graph = makeGraph(build(new GraphBuilder()))
  const random = new Random(seed)
  const feeds: Record<string, Feeds[string]> = {}
  for (const { attributes } of inputsOf(graph)) {
    const shape = attributes.shape as number[]
    const integer = integers[attributes.name]
    const data =
      integer === undefined
        ? Float32Array.from({ length: sizeOf(shape) }, () => random.normal())
        : Int32Array.from({ length: sizeOf(shape) }, () => integer(random))
    feeds[attributes.name] = { dtype: attributes.dtype, shape, data }
  }
  const expected = evaluate(graph, feeds)
  const program = await opened.compile(graph, { folder: '', tensors: new Map() })
  const actual = await program.run(feeds)
  // The second run is a captured graph; on the stand-in the last thread of each block now goes first, so that a barrier that is missing shows.
  process.env['STAND_IN_ORDER'] = 'backwards'
  const again = await program.run(feeds)
  delete process.env['STAND_IN_ORDER']
  await program.dispose()
  for (const [name, { data }] of Object.entries(expected)) {
    assertClose(`${name} with seed ${seed}`, actual[name]!.data, data, tolerance)
    assert.deepEqual(again[name]!.data, actual[name]!.data, `${name} is the same bit for bit in a second run`)
  }
}

const upTo =
  (max: number) =>
  (random: Random): number =>
    Math.floor(random.next() * (max + 1))

for (const size of [
  { batch: 2, queries: 37, past: 10, heads: 2, headDim: 64, pastPerRow: false, perQuery: false },
  { batch: 3, queries: 70, past: 75, heads: 1, headDim: 16, pastPerRow: true, perQuery: false },
  { batch: 2, queries: 33, past: 40, heads: 2, headDim: 80, pastPerRow: false, perQuery: true },
  { batch: 1, queries: 20, past: 33, heads: 1, headDim: 128, pastPerRow: true, perQuery: true },
  { batch: 3, queries: 1, past: 700, heads: 2, headDim: 64, pastPerRow: true, perQuery: false },
  { batch: 2, queries: 1, past: 300, heads: 1, headDim: 80, pastPerRow: false, perQuery: true },
]) {
  const { batch, queries, past, headDim } = size
  test(
    `attention of ${batch} rows × ${queries} queries over ${past} past positions with heads of ${headDim} agrees`,
    { skip },
    () => agrees((g) => attentionOf(g, size), { lengths: upTo(past) }),
  )
}

test('cross-entropy over 1,500 tokens agrees, alone and with its gradient', { skip }, async () => {
  const inputs = (g: GraphBuilder) =>
    [g.input('hidden', [9, 48]), g.input('table', [1500, 48]), g.input('labels', [9], 'int32')] as const
  await agrees((g) => ({ loss: g.crossEntropy(inputs(g), 0.1) }), { labels: upTo(1499) })
  await agrees(
    (g) => {
      const given = inputs(g)
      const gradient = g.crossEntropyGrad(given, g.input('ct', [9]), 0.1)
      return { loss: g.crossEntropy(given, 0.1), gradient }
    },
    { labels: upTo(1499) },
  )
})

test('layer norm, its gradient and gelu over rows of 768 agree, residuals added on the way', { skip }, () =>
  agrees((g) => {
    const x = g.input('x', [13, 768])
    const norm = [x, g.input('scale', [768]), g.input('shift', [768])] as const
    const ct = g.input('ct', [13, 768])
    const gelu = g.gelu(g.linear(g.layerNorm(...norm, 1e-5), g.input('w', [768, 96]), g.input('b', [96])))
    const back = g.add(ct, g.layerNormGrad(norm, g.mul(ct, ct), 1e-5))
    const forward = g.add(g.linear(gelu, g.input('v', [768, 96]), null, { transposed: true }), x)
    return { back, forward, slope: g.geluGrad(x, ct) }
  }),
)

test('300 rows gathered and scattered over 70 agree, whatever is hit how often', { skip }, () =>
  agrees(
    (g) => {
      const at = g.input('at', [300], 'int32')
      const table = g.input('table', [70, 36])
      return { taken: g.gather(table, at), back: g.scatterAdd(g.input('rows', [300, 36]), at, [70, 36]) }
    },
    { at: upTo(69) },
  ),
)

test('long sums, few or many, over the first, the last or the middle axes, agree', { skip }, () =>
  agrees((g) => {
    const x = g.input('x', [40, 30, 50])
    return {
      all: g.sumTo(x, []),
      rows: g.sumTo(x, [50]),
      columns: g.sumTo(x, [40, 30, 1]),
      middle: g.sumTo(x, [40, 1, 50]),
      outer: g.outer(g.input('p', [90, 33]), g.input('q', [90, 21])),
    }
  }),
)

test('parts of rows, cut apart and joined in another order, agree', { skip }, () =>
  agrees((g) => {
    const x = g.input('x', [4, 6, 30])
    const [a, b] = g.split(x, 2, [11, 19]) as [Value, Value]
    const [top, rest] = g.split(x, 0, [1, 3]) as [Value, Value]
    const [upper, lower] = g.split(x, 1, [2, 4]) as [Value, Value]
    return {
      turned: g.concat([b, a], 2),
      rows: g.joinRows([g.tanh(rest), top, g.gelu(rest)], 'N'),
      again: g.concat([lower, g.tanh(upper)], 1),
      flat: g.mul(g.reshape(b, [24, 19]), g.input('y', [24, 1])),
      turnedAxes: g.transpose(b, [2, 0, 1]),
      cut: g.linear(a, g.input('w', [11, 5]), null),
      normal: g.layerNorm(b, g.constant(2, [19]), g.constant(0.5, [19]), 1e-5),
      shifted: g.add(g.scale(a, 3), g.constant(1)),
    }
  }),
)

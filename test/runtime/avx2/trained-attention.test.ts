// Attention that is trained through, and its gradients, against the reference: heads of every size, pasts of every kind.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Node, Value } from '../../../src/graph/ops.ts'
import { Random } from '../../../src/random/random.ts'
import type { Feeds } from '../../../src/runtime/runtime.ts'
import { int32, type Tensor } from '../../../src/tensor/tensor.ts'
import { assertClose } from '../../golden/gpt2.ts'
import { assertSame, integers, normal, open, reference, runOnce, seed, skip } from './run-graph.ts'

/** Of the largest number of each output. */
const tolerance = 1e-5
const heads = 2
/** Half a panel, panels, and such as leave a rest behind blocks and tiles. */
const headDims = [8, 16, 40, 64, 128]
/** Rows, queries and past positions: with one of each, whole panels of keys, one more, and several chunks and blocks. */
const extents = [
  [1, 1, 1],
  [2, 16, 16],
  [3, 17, 5],
  [2, 7, 33],
  [1, 130, 20],
] as const
/** Of these heads alone; others go through the same chunks. */
const manyQueries = 16
const extentsOf = (headDim: number) => extents.filter(([, queries]) => headDim === manyQueries || queries < 100)

type PastKind = 'by number' | 'by position' | 'constants'
type LengthsKind = 'one' | 'per row' | 'per query'

interface Past {
  readonly kind: PastKind
  readonly isShared: boolean
}

/** Keys, their gradient's name leads to what undoes the turn where there is one. */
function pastOf(g: GraphBuilder, { kind, isShared }: Past, headDim: number): readonly [Value, Value] {
  const batch = isShared ? 1 : 'B'
  if (kind === 'constants') return [g.constant(0, [1, heads, headDim, 1]), g.constant(0, [1, heads, 1, headDim])]
  const value = g.input('pastValue', [batch, heads, 'P', headDim])
  if (kind === 'by number') return [g.input('pastKey', [batch, heads, headDim, 'P']), value]
  return [g.transpose(g.input('pastKey', [batch, heads, 'P', headDim]), [0, 1, 3, 2]), value]
}

const lengthsOf = (g: GraphBuilder, kind: LengthsKind): Value =>
  g.input('lengths', kind === 'one' ? [1] : kind === 'per row' ? ['B'] : ['B', 'T'], 'int32')

/** Gradients by the names of what they are of; of past keys that are turned, turned back. */
function outputsOf(
  g: GraphBuilder,
  { kind }: Past,
  y: Value,
  gradients: Readonly<Record<string, Value | undefined>>,
): Graph {
  const { pastKey, ...others } = gradients
  const turned = kind === 'by position' ? g.transpose(pastKey as Value, [0, 1, 3, 2]) : (pastKey as Value)
  const known = Object.entries({ ...others, pastKey: turned }).flatMap(([name, value]) =>
    value === undefined || (kind === 'constants' && name.startsWith('past')) ? [] : [[`d.${name}`, value] as const],
  )
  return makeGraph({ y, ...Object.fromEntries(known) })
}

function causal(past: Past, lengths: LengthsKind, headDim: number): Graph {
  const g = new GraphBuilder()
  const width = heads * headDim
  // Parts of one projection, as a layer makes them.
  const [q, k, v] = g.split(g.input('qkv', ['B', 'T', 3 * width]), 2, [width, width, width]) as [Value, Value, Value]
  const inputs: Node<'attention'>['inputs'] = [q, k, v, ...pastOf(g, past, headDim), lengthsOf(g, lengths)]
  const [query, key, value, pastKey, pastValue] = g.attentionGrad(inputs, g.input('ct', ['B', 'T', width]), heads)
  return outputsOf(g, past, g.attention(inputs, heads), { query, key, value, pastKey, pastValue })
}

function crossing(past: Past, lengths: LengthsKind, headDim: number, { alone = false } = {}): Graph {
  const g = new GraphBuilder()
  const width = heads * headDim
  const own = [g.input('query', ['B', 'T', width]), ...pastOf(g, past, headDim), lengthsOf(g, lengths)] as const
  const inputs: Node<'crossAttention'>['inputs'] = alone
    ? own
    : [...own, g.input('k', ['B', 'S', width]), g.input('v', ['B', 'S', width]), g.input('seen', ['B'], 'int32')]
  const gradients = g.crossAttentionGrad(inputs, g.input('ct', ['B', 'T', width]), heads)
  const [query, pastKey, pastValue, key, value] = gradients
  return outputsOf(g, past, g.crossAttention(inputs, heads), { query, pastKey, pastValue, key, value })
}

function draw(
  random: Random,
  { kind, isShared }: Past,
  lengthsKind: LengthsKind,
  headDim: number,
  [batch, queries, room]: readonly [number, number, number],
  { least = 0, keys = 0, isCausal = true } = {},
): Feeds {
  const width = heads * headDim
  const past = kind === 'constants' ? 1 : room
  const lengths = (count: number): Int32Array =>
    Int32Array.from({ length: count }, (_, i) =>
      kind === 'constants' ? 0 : i === 0 ? past : least + random.below(past + 1 - least),
    )
  const pastShape = [isShared ? 1 : batch, heads, room, headDim]
  return {
    ...(isCausal
      ? { qkv: normal(random, [batch, queries, 3 * width]) }
      : { query: normal(random, [batch, queries, width]) }),
    ct: normal(random, [batch, queries, width]),
    lengths:
      lengthsKind === 'per query'
        ? int32(lengths(batch * queries), [batch, queries])
        : integers(...lengths(lengthsKind === 'one' ? 1 : batch)),
    ...(kind !== 'constants' && {
      pastKey: normal(random, kind === 'by number' ? pastShape.with(2, headDim).with(3, room) : pastShape),
      pastValue: normal(random, pastShape),
    }),
    ...(keys > 0 && {
      k: normal(random, [batch, keys, width]),
      v: normal(random, [batch, keys, width]),
      seen: integers(...Array.from({ length: batch }, (_, i) => (i === 0 ? keys : 1 + random.below(keys)))),
    }),
  }
}

async function check(what: string, graph: Graph, draws: readonly Feeds[]): Promise<void> {
  const [one, three] = [1, 3].map((threads) => open(graph, {}, { form: 'float32', threads })) as [
    ReturnType<typeof open>,
    ReturnType<typeof open>,
  ]
  for (const feeds of draws) {
    const expected = reference(graph, feeds)
    const got = await runOnce(one, feeds)
    const several = await runOnce(three, feeds)
    const shapes = Object.entries(feeds).map(([name, { shape }]: [string, Tensor]) => `${name} [${shape}]`)
    assert.ok(Object.keys(expected).length > 2)
    for (const [name, values] of Object.entries(expected)) {
      const which = `${what}, ${shapes.join(', ')}, ${name}, SEED=${seed}`
      // Where a query sees one position alone, its gradient is 0 but for rounding.
      const isZero = Math.max(...Array.from(values, Math.abs)) < 1e-9
      if (isZero)
        assert.ok(
          (got[name] as Float32Array).every((each) => Math.abs(each) < 1e-5),
          which,
        )
      else assertClose(which, got[name] ?? [], values, tolerance)
      assertSame(`${which}, three threads`, several[name], got[name])
    }
  }
  await Promise.all([one.dispose(), three.dispose()])
}

const pasts: readonly Past[] = [
  { kind: 'by number', isShared: true },
  { kind: 'by number', isShared: false },
  { kind: 'by position', isShared: true },
  { kind: 'by position', isShared: false },
  { kind: 'constants', isShared: true },
]

const nameOf = ({ kind, isShared }: Past): string => `past ${kind}, ${isShared ? 'shared' : 'per row'}`

for (const headDim of headDims) {
  test(`causal, heads of ${headDim}: what is seen of the past, and all gradients`, { skip }, async () => {
    const random = new Random(seed + headDim)
    for (const past of pasts) {
      for (const lengths of ['one', 'per row', 'per query'] as const) {
        const draws = extentsOf(headDim).map((each) => draw(random, past, lengths, headDim, each))
        await check(`${nameOf(past)}, lengths ${lengths}`, causal(past, lengths, headDim), draws)
      }
    }
  })

  test(`crossing, heads of ${headDim}: over a past, beside new keys and alone, and all gradients`, {
    skip,
  }, async () => {
    const random = new Random(seed + headDim)
    for (const past of pasts) {
      for (const lengths of ['one', 'per row'] as const) {
        const beside = extentsOf(headDim).flatMap((each) =>
          [1, 35].map((keys) => draw(random, past, lengths, headDim, each, { keys, isCausal: false })),
        )
        await check(`${nameOf(past)}, lengths ${lengths}`, crossing(past, lengths, headDim), beside)
        if (past.kind === 'constants') continue
        const alone = extentsOf(headDim).map((each) =>
          draw(random, past, lengths, headDim, each, { least: 1, isCausal: false }),
        )
        await check(
          `${nameOf(past)} alone, lengths ${lengths}`,
          crossing(past, lengths, headDim, { alone: true }),
          alone,
        )
      }
    }
  })
}

test('crossing beside no new keys at all is over the past alone', { skip }, async () => {
  const random = new Random(seed)
  const [past, width] = [{ kind: 'by number', isShared: true } as const, heads * 8]
  const draws = [1, 5].map((room) => ({
    ...draw(random, past, 'one', 8, [2, 7, room], { least: 1, isCausal: false }),
    k: normal(random, [2, 0, width]),
    v: normal(random, [2, 0, width]),
    seen: integers(0, 0),
  }))
  await check('no new keys', crossing(past, 'one', 8), draws)
})

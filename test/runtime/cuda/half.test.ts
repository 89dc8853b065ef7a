// Attention in 16 bits: every case against the reference, and decoding over a cache in 16 bits beside one in float32.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { inputsOf, makeGraph, type Graph } from '../../../src/graph/graph.ts'
import type { Value } from '../../../src/graph/ops.ts'
import { openModel } from '../../../src/model/model.ts'
import { Random } from '../../../src/random/random.ts'
import type { CudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { roundBfloat16, roundFloat16 } from '../../../src/runtime/cuda/weights.ts'
import { evaluate } from '../../../src/runtime/reference/reference.ts'
import type { DecodeSession, Feeds, Past } from '../../../src/runtime/runtime.ts'
import { widenBfloat16, widenFloat16 } from '../../../src/tensor/half.ts'
import { sizeOf } from '../../../src/tensor/tensor.ts'
import { golden, goldenFolder, relativeError } from '../../golden/gpt2.ts'
import { cases } from '../../ops/cases.ts'
import { ready, seed } from '../../ops/run-case.ts'
import { attentionOf, crossAttentionOf, type AttentionSize } from './attention-graphs.ts'
import { testCuda } from './runtimes.ts'

const { skip } = testCuda
let opened: CudaRuntime | null = null
const cuda = (): CudaRuntime => (opened ??= testCuda.open({ checked: true }))

/**
 * Relative to the largest result. What goes in is representable in the form, so that only weights and slopes are rounded on the way: by up to 2⁻⁹
 * and 2⁻¹² of themselves. A slope is a difference of products that can be some times larger than it, and weights that are rounded no
 * longer add up to 1: twice the rounding of a single number is allowed for the result, and five times for gradients.
 */
const roundings = {
  bfloat16: { unit: 2 ** -9, round: (x: Float32Array) => widenBfloat16(roundBfloat16(x)) },
  float16: { unit: 2 ** -12, round: (x: Float32Array) => widenFloat16(roundFloat16(x)) },
} as const
const halves = ['bfloat16', 'float16'] as const
type Half = (typeof halves)[number]

async function agrees(graph: Graph, given: Feeds, form: Half): Promise<void> {
  const { unit, round } = roundings[form]
  const feeds = Object.fromEntries(
    Object.entries(given).map(([name, feed]) => {
      const data = feed.dtype === 'int32' ? feed.data : Float32Array.from(round(Float32Array.from(feed.data)))
      return [name, { ...feed, data }]
    }),
  )
  const expected = evaluate(graph, feeds)
  const program = await cuda().compile(graph, { folder: '', tensors: new Map() }, form)
  const actual = await program.run(feeds)
  // The second run is a captured graph; on the stand-in the last thread of each block now goes first, so that a barrier that is missing shows.
  process.env['STAND_IN_ORDER'] = 'backwards'
  const again = await program.run(feeds)
  delete process.env['STAND_IN_ORDER']
  await program.dispose()
  for (const [name, { data }] of Object.entries(expected)) {
    const error = relativeError(actual[name]!.data, data)
    const allowed = (name === 'out' || name === 'out0' ? 2 : 5) * unit
    assert.ok(
      error <= allowed,
      `${name} in ${form} with seed ${seed} is off by ${error} of its largest value, not ${allowed}`,
    )
    assert.deepEqual(again[name]!.data, actual[name]!.data, `${name} is the same bit for bit in a second run`)
  }
}

for (const form of halves) {
  for (const op of ['attention', 'attentionGrad', 'crossAttention', 'crossAttentionGrad'] as const) {
    for (const opCase of cases[op]) {
      test(`${op}, ${opCase.name}: in ${form} it agrees with the reference`, { skip }, () => {
        const { graph, feeds } = ready(opCase)
        return agrees(graph, feeds, form)
      })
    }
  }
}

function randomFeeds(graph: Graph, lengths: Readonly<Record<string, number>>): Feeds {
  const random = new Random(seed)
  return Object.fromEntries(
    inputsOf(graph).map(({ attributes: { name, dtype, shape } }) => {
      const extents = shape as number[]
      const max = lengths[name]
      const data =
        max === undefined
          ? Float32Array.from({ length: sizeOf(extents) }, () => random.normal())
          : Int32Array.from({ length: sizeOf(extents) }, () => Math.floor(random.next() * (max + 1)))
      return [name, { dtype, shape: extents, data }]
    }),
  )
}

const sizes: readonly (AttentionSize & { readonly keys?: number })[] = [
  { batch: 2, queries: 37, past: 10, heads: 2, headDim: 64, pastPerRow: false, perQuery: false },
  { batch: 2, queries: 70, past: 75, heads: 1, headDim: 16, pastPerRow: true, perQuery: false },
  { batch: 1, queries: 83, past: 40, heads: 2, headDim: 20, pastPerRow: false, perQuery: true },
  { batch: 1, queries: 36, past: 33, heads: 1, headDim: 128, pastPerRow: true, perQuery: true },
  { batch: 2, queries: 20, past: 40, heads: 2, headDim: 16, pastPerRow: true, perQuery: false, keys: 70 },
]

for (const form of halves) {
  for (const { keys, ...size } of sizes) {
    const { batch, queries, past, headDim } = size
    const what = keys === undefined ? 'attention' : `cross-attention with ${keys} keys`
    test(`${what} of ${batch} rows × ${queries} queries over ${past} past positions with heads of ${headDim} agrees in ${form}`, {
      skip,
    }, () => {
      const g = new GraphBuilder()
      const built: Record<string, Value> =
        keys === undefined ? { ...attentionOf(g, size) } : { ...crossAttentionOf(g, size, keys) }
      const graph = makeGraph(built)
      return agrees(graph, randomFeeds(graph, { lengths: past, keyLengths: keys ?? 0 }), form)
    })
  }
}

async function openSession(form: string, positionsMax?: number): Promise<DecodeSession> {
  const model = await openModel(`${goldenFolder}/model`)
  const layout = { ...model.config, rowsMax: 4, ...(positionsMax !== undefined && { positionsMax }) }
  return cuda().openSession(model.forwardGraph(cuda().segments), model.weights, layout, form)
}

/** As long as is asked for, its text at the beginning of the model's positions. */
async function randomPast(length: number): Promise<Past> {
  const { config } = await openModel(`${goldenFolder}/model`)
  const random = new Random(seed)
  const numbers = config.layers * config.heads * length * config.headDim
  const [keys, values] = [0, 1].map(() => Float32Array.from({ length: numbers }, () => random.normal()))
  return { keys: keys as Float32Array, values: values as Float32Array, length, textStart: 0 }
}

const stored: Past = {
  keys: Float32Array.from(golden.prefix['keys']!.data),
  values: Float32Array.from(golden.prefix['values']!.data),
  length: golden.prefixLength,
}

/** Rows with different prefixes and lengths, moved in between, that read prompts in pieces and decode; all logits. */
async function conversation(session: DecodeSession, long: Past | null): Promise<Float32Array[]> {
  session.seed(0, stored)
  session.seed(1, null)
  session.seed(2, long)
  const logits = [(await session.extend(0, [[4, 5, 6], [7], [8, 9]])).slice()]
  session.copy(2, 3, 0, session.lengths[2] as number)
  session.seed(2, stored)
  logits.push((await session.extend(1, [[10], [11, 12, 13], [14]])).slice())
  // Every row one token: the kernel that decodes.
  for (let step = 0; step < 3; step++) logits.push((await session.extend(0, [[1 + step], [2], [3], [4]])).slice())
  return logits
}

for (const form of halves) {
  // Weights, what meets them, keys and values are rounded one after the other in each layer.
  const allowed = 24 * roundings[form].unit
  for (const [what, length] of [
    ['short', 5],
    ['long, which several blocks share', 700],
  ] as const) {
    test(`decoding over a ${form} cache stays near that in float32, rows being ${what}`, { skip }, async () => {
      const long = await randomPast(length)
      const [exact, near] = [await openSession('float32', length + 20), await openSession(form, length + 20)]
      const [wanted, found] = [await conversation(exact, long), await conversation(near, long)]
      for (const [call, logits] of wanted.entries()) {
        const error = relativeError(found[call] as Float32Array, logits)
        assert.ok(error < allowed && error > 1e-6, `call ${call}: off by ${error}, allowed is ${allowed}; seed ${seed}`)
      }
      await Promise.all([exact.dispose(), near.dispose()])
    })
  }

  test(`a prompt read in pieces, or token by token, says in ${form} what it says in one piece`, { skip }, async () => {
    const session = await openSession(form)
    const tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    const answers: Float32Array[] = []
    for (const pieces of [[tokens], [tokens.slice(0, 5), tokens.slice(5)], tokens.map((token) => [token])]) {
      session.seed(0, stored)
      let last = new Float32Array()
      for (const piece of pieces) last = (await session.extend(0, [piece])).slice()
      answers.push(last)
    }
    const [whole, ...others] = answers as [Float32Array, ...Float32Array[]]
    for (const other of others) assert.ok(relativeError(other, whole) < allowed)
    await session.dispose()
  })
}

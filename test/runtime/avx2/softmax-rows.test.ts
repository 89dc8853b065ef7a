// Softmax of the scores of attention and its gradient against sums in double precision, with every edge of what a query sees.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Random } from '../../../src/random/random.ts'
import { emitSoftmaxGrad } from '../../../src/runtime/avx2/kernels/gradient-rows.ts'
import { emitSoftmax } from '../../../src/runtime/avx2/kernels/softmax-rows.ts'
import { assertNear, normal, seed, skip } from './run-graph.ts'
import { type GivenTo, KernelCode } from './run-kernel.ts'

const roundOff = 2 ** -24
/** Somewhat above exp of the least exponent that is not taken as another. */
const least = 1.001 * Math.exp(-87)

const codes = skip
  ? null
  : { softmax: new KernelCode('softmaxRows', emitSoftmax), grad: new KernelCode('softmaxGradRows', emitSoftmaxGrad) }
after(() => {
  for (const code of Object.values(codes ?? {})) code.dispose()
})

/** Whether the query of a row sees a number, and how large its place in the rows is. */
interface Seen {
  readonly heads: number
  readonly batch: number
  readonly queries: number
  readonly width: number
  readonly past: number
  readonly keys: number
  readonly pastLength: (batch: number, query: number) => number
  readonly keyLength: (batch: number, query: number) => number
}

type Lengths = Pick<
  GivenTo<'softmaxRows'>,
  'pastLengths' | 'pastLengthBatchStep' | 'pastLengthQueryStep' | 'keyLengths' | 'keyLengthStep'
>

/** Random scores, of which those that are not seen are no numbers, must become what the definition says. */
async function assertSoftmax(
  seen: Seen,
  lengths: Lengths,
  { level = 0, spread = 3, gap = 0, inPlace = false } = {},
): Promise<void> {
  const random = new Random(seed)
  const { heads, batch, queries, width, past, keys } = seen
  const count = heads * batch * queries
  const stride = width + gap
  const scale = Math.fround(0.37)
  const from = new Float32Array(count * stride).fill(NaN)
  const expected = new Float64Array(count * width)
  /** No numbers where nothing is seen. */
  const exponents = new Float64Array(count * width).fill(NaN)
  for (let row = 0; row < count; row++) {
    const [ofBatch, query] = [Math.floor((row % (batch * queries)) / queries), row % queries]
    const [pastLength, keyLength] = [seen.pastLength(ofBatch, query), seen.keyLength(ofBatch, query)]
    const places = Array.from({ length: width }, (_, j) => j).filter(
      (j) => j < pastLength || (j >= past && j < past + keyLength),
    )
    for (const j of places) from[row * stride + j] = level + spread * random.normal()
    const score = (j: number): number => scale * (from[row * stride + j] as number)
    const largest = Math.max(...places.map(score))
    const sum = places.reduce((all, j) => all + Math.exp(score(j) - largest), 0)
    for (const j of places) {
      exponents[row * width + j] = score(j) - largest
      expected[row * width + j] = Math.exp(score(j) - largest) / sum
    }
  }
  const chunkRows = Math.ceil(count / 3)
  const given = (): GivenTo<'softmaxRows'> => {
    const scores = from.slice()
    return {
      count,
      chunkRows,
      width,
      from: scores,
      fromStride: 4 * stride,
      to: inPlace ? scores : new Float32Array(count * width).fill(NaN),
      toStride: 4 * (inPlace ? stride : width),
      scale: { float: scale },
      past,
      queries,
      rowsOfHead: batch * queries,
      keys,
      ...lengths,
    }
  }
  const what = `past ${past}, keys ${keys}, width ${width}`
  await codes?.softmax.everywhere(given, Math.ceil(count / chunkRows), ({ to }, side) => {
    const rows = to as Float32Array
    const got = inPlace
      ? expected.map((_, i) => rows[Math.floor(i / width) * stride + (i % width)] as number)
      : Float64Array.from(rows)
    // Both roundings of an exponent count against itself, and a sum has at most a lane's terms one after the other.
    assertNear(`${what} ${side}`, got, expected, (i) => {
      const exponent = exponents[i] as number
      if (Number.isNaN(exponent)) return 0
      return roundOff * (2 * Math.abs(exponent) + width / 8 + 8) * (expected[i] as number) + least
    })
  })
}

const shared = (...lengths: readonly number[]): Int32Array => Int32Array.from(lengths)

for (const width of [8, 24]) {
  test(`softmax of rows of ${width}: every length of the past with every length of the keys`, { skip }, async () => {
    for (let past = 0; past <= width; past++) {
      for (const keys of new Set([width - past, Math.max(0, width - past - 5), 0])) {
        const seen: Seen = {
          heads: 1,
          batch: keys + 1,
          queries: past + 1,
          width,
          past,
          keys,
          pastLength: (_, query) => query,
          keyLength: (row) => row,
        }
        await assertSoftmax(seen, {
          pastLengths: Int32Array.from({ length: past + 1 }, (_, i) => i),
          pastLengthBatchStep: 0,
          pastLengthQueryStep: 4,
          keyLengths: Int32Array.from({ length: keys + 1 }, (_, i) => i),
          keyLengthStep: 4,
        })
      }
    }
  })
}

test('softmax of causal rows with pasts of each batch row, and of each query; also in place and with rows apart', {
  skip,
}, async () => {
  for (const [batch, queries, past, width] of [
    [3, 5, 11, 16],
    [2, 37, 20, 64],
    [1, 9, 0, 16],
    [2, 70, 33, 104],
    [1, 1, 7, 8],
  ] as const) {
    const lengths = Array.from({ length: batch * queries }, (_, i) => (7 * i + past) % (past + 1))
    const common = { heads: 2, batch, queries, width, past, keys: queries }
    for (const options of [{}, { inPlace: true, gap: 5 }, { gap: 8, spread: 100 }, { level: -1000 }]) {
      await assertSoftmax(
        { ...common, pastLength: (row) => lengths[row] as number, keyLength: (_, query) => query + 1 },
        {
          pastLengths: shared(...lengths.slice(0, batch)),
          pastLengthBatchStep: 4,
          pastLengthQueryStep: 0,
          keyLengths: null,
          keyLengthStep: 0,
        },
        options,
      )
      await assertSoftmax(
        {
          ...common,
          pastLength: (row, query) => lengths[row * queries + query] as number,
          keyLength: (_, query) => query + 1,
        },
        {
          pastLengths: shared(...lengths),
          pastLengthBatchStep: 4 * queries,
          pastLengthQueryStep: 4,
          keyLengths: null,
          keyLengthStep: 0,
        },
        options,
      )
    }
  }
})

test('softmax over keys of one length for all, over a past alone, and causal without new keys', { skip }, async () => {
  const common = { heads: 3, batch: 2, queries: 4, width: 40, past: 21 }
  const ofPast = { pastLengths: shared(13), pastLengthBatchStep: 0, pastLengthQueryStep: 0 }
  const pastLength = (): number => 13
  const causal = { keyLengths: null, keyLengthStep: 0 }
  await assertSoftmax(
    { ...common, keys: 17, pastLength, keyLength: () => 15 },
    { ...ofPast, keyLengths: shared(15), keyLengthStep: 0 },
  )
  await assertSoftmax({ ...common, keys: 0, pastLength, keyLength: () => 0 }, { ...ofPast, ...causal })
  await assertSoftmax(
    { ...common, keys: 2, pastLength, keyLength: (_, query) => Math.min(2, query + 1) },
    { ...ofPast, ...causal },
  )
})

test('what is no number among what a query sees stays in its row', { skip }, async () => {
  const from = new Float32Array(3 * 16).fill(1)
  from[16 + 3] = NaN
  const to = new Float32Array(3 * 16)
  const given = {
    count: 3,
    chunkRows: 3,
    width: 16,
    from,
    fromStride: 64,
    to,
    toStride: 64,
    scale: { float: 1 },
    past: 16,
    queries: 3,
    rowsOfHead: 3,
    pastLengths: shared(16),
    pastLengthBatchStep: 0,
    pastLengthQueryStep: 0,
    keyLengths: null,
    keyLengthStep: 0,
    keys: 0,
  }
  await codes?.softmax.run(given, 1, 1)
  to.forEach((value, i) => (Math.floor(i / 16) === 1 ? assert.ok(Number.isNaN(value)) : assert.equal(value, 1 / 16)))
})

for (const width of [8, 40, 1032]) {
  test(`the gradient of softmax over rows of ${width}, in place and not`, { skip }, async () => {
    const random = new Random(seed)
    const count = 5
    const scale = Math.fround(0.37)
    const from = normal(random, [count, width]).data.map((value, i) =>
      i % width > width - 4 ? 0 : Math.exp(2 * value),
    )
    for (let row = 0; row < count; row++) {
      const of = from.subarray(row * width, (row + 1) * width)
      const sum = of.reduce((all, each) => all + each, 0)
      of.set(of.map((each) => each / sum))
    }
    const back = normal(random, [count, width], 10).data
    const sums = Array.from({ length: count }, (_, row) => {
      let [sum, sizes] = [0, 0]
      for (let i = row * width; i < (row + 1) * width; i++) {
        sum += (from[i] as number) * (back[i] as number)
        sizes += Math.abs((from[i] as number) * (back[i] as number))
      }
      return { sum, sizes }
    })
    const ofRow = (i: number): (typeof sums)[number] => sums[Math.floor(i / width)] as (typeof sums)[number]
    const expected = Float64Array.from(from, (p, i) => scale * p * ((back[i] as number) - ofRow(i).sum))
    for (const inPlace of [false, true]) {
      const given = (): GivenTo<'softmaxGradRows'> => {
        const copy = back.slice()
        const to = inPlace ? copy : new Float32Array(count * width)
        const strides = { fromStride: 4 * width, toStride: 4 * width, withStride: 4 * width }
        return { count, chunkRows: 2, width, from, to, with: copy, scale: { float: scale }, ...strides }
      }
      await codes?.grad.everywhere(given, 3, ({ to }) =>
        assertNear('gradient', to as Float32Array, expected, (i) => {
          const size = scale * (from[i] as number)
          return roundOff * (size * (width / 8 + 3) * ofRow(i).sizes + 4 * Math.abs(expected[i] as number))
        }),
      )
    }
  })
}

// Cross-entropy of rows of logits and its gradient against sums in double precision, for rows of every width.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Random } from '../../../src/random/random.ts'
import { emitCrossEntropy, emitCrossEntropyGrad } from '../../../src/runtime/avx2/kernels/cross-entropy-rows.ts'
import { assertNear, normal, seed, skip } from './run-graph.ts'
import { type GivenTo, KernelCode } from './run-kernel.ts'

const roundOff = 2 ** -24
const tolerance = 2e-6
/** Somewhat above exp of the least exponent that is not taken as another. */
const least = 1.001 * Math.exp(-87)

const codes = skip
  ? null
  : {
      losses: new KernelCode('crossEntropyRows', emitCrossEntropy),
      grad: new KernelCode('crossEntropyGradRows', emitCrossEntropyGrad),
    }
after(() => {
  for (const code of Object.values(codes ?? {})) code.dispose()
})

interface Rows {
  readonly count: number
  readonly width: number
  /** From row to row; what is between them is no number. */
  readonly stride: number
  readonly logits: Float32Array
  readonly labels: Int32Array
}

/** Logits around 0, around −90 as GPT-2 has them, and with one that is far above the others; labels of every kind. */
function draw(width: number, gap: number): Rows {
  const random = new Random(seed)
  const [count, stride] = [7, width + gap]
  const logits = new Float32Array(count * stride - gap).fill(NaN)
  for (let row = 0; row < count; row++) {
    const numbers = normal(random, [width], row === 3 ? 20 : 3).data
    if (row === 1) numbers.set(numbers.map((value) => value - 90))
    if (row === 2) numbers[width - 1] = 60
    logits.set(numbers, row * stride)
  }
  const labels = Int32Array.from({ length: count }, (_, row) => {
    const some = [0, width - 1, width - 1, Math.floor(width / 2), Math.max(0, (width & -8) - 1), width & -8]
    return Math.min(width - 1, some[row] ?? random.below(width))
  })
  return { count, width, stride, logits, labels }
}

/** By the definition. */
function expectedOf({ count, width, stride, logits, labels }: Rows, smoothing: number) {
  return Array.from({ length: count }, (_, row) => {
    const of = Float64Array.from(logits.subarray(row * stride, row * stride + width))
    const largest = of.reduce((most, each) => Math.max(most, each), -Infinity)
    const logSum = largest + Math.log(of.reduce((sum, each) => sum + Math.exp(each - largest), 0))
    const mean = of.reduce((sum, each) => sum + each, 0) / width
    const loss = logSum - (1 - smoothing) * (of[labels[row] as number] as number) - smoothing * mean
    return { logSum, loss, probabilities: of.map((each) => Math.exp(each - logSum)) }
  })
}

for (const width of [1, 5, 8, 15, 16, 523, 50257]) {
  for (const [gap, smoothing] of [
    [0, 0],
    [3, 0.1],
    [8, 0.3],
  ] as const) {
    const about = `${width} logits, ${gap} apart, with a smoothing of ${smoothing}`

    test(`cross-entropy of ${about}`, { skip }, async () => {
      const rows = draw(width, gap)
      const { count, stride, logits, labels } = rows
      const expected = expectedOf(rows, Math.fround(smoothing))
      const given = (): GivenTo<'crossEntropyRows'> => ({
        count,
        chunkRows: 3,
        width,
        from: logits,
        fromStride: 4 * stride,
        labels,
        losses: new Float32Array(count),
        logSums: new Float32Array(count),
        smoothing: { float: smoothing },
        ofWidth: { float: 1 / width },
      })
      await codes?.losses.everywhere(given, 3, ({ losses, logSums }) => {
        for (const [name, got] of Object.entries({ loss: losses, logSum: logSums } as const)) {
          const values = Float64Array.from(expected, (each) => each[name as 'loss' | 'logSum'])
          assertNear(name, got as Float32Array, values, (i) => tolerance * Math.max(1, Math.abs(values[i] as number)))
        }
      })
    })

    test(`the gradient of cross-entropy of ${about}, in place and not`, { skip }, async () => {
      const rows = draw(width, gap)
      const { count, stride, logits, labels } = rows
      const cts = normal(new Random(seed + 1), [count]).data
      const expected = expectedOf(rows, Math.fround(smoothing))
      const logSums = Float32Array.from(expected, ({ logSum }) => logSum)
      for (const inPlace of [false, true]) {
        const given = (): GivenTo<'crossEntropyGradRows'> => {
          const from = logits.slice()
          const to = inPlace ? from : new Float32Array(from.length).fill(NaN)
          return {
            count,
            chunkRows: 3,
            width,
            from,
            fromStride: 4 * stride,
            to,
            toStride: 4 * stride,
            labels,
            logSums,
            cts,
            smoothing: { float: smoothing },
            ofWidth: { float: 1 / width },
          }
        }
        await codes?.grad.everywhere(given, 3, ({ to }) => {
          ;(to as Float32Array).forEach((got, i) => {
            const [row, j] = [Math.floor(i / stride), i % stride]
            if (j >= width) {
              if (!Number.isNaN(got)) assert.fail(`${got} is written behind row ${row}`)
              return
            }
            const { probabilities, logSum } = expected[row] as (typeof expected)[number]
            const [p, ct] = [probabilities[j] as number, cts[row] as number]
            const [label, spread] = [j === labels[row] ? 1 - smoothing : 0, smoothing / width]
            const value = ct * (p - label - spread)
            // The sum's logarithm is rounded, and what is left of the logit without it.
            const off = p * (2 * Math.abs(logSum) + Math.abs(Math.log(p + least)) + 8) + 4 * spread + 4 * label
            const error = Math.abs(got - value)
            const bound = Math.abs(ct) * (roundOff * off + least)
            if (!(error <= bound)) assert.fail(`[${row}, ${j}]: ${got} instead of ${value}, SEED=${seed}`)
          })
        })
      }
    })
  }
}

test('the logarithm of sums of all sizes, to a unit in the last place or two', { skip }, async () => {
  const widths = [...Array.from({ length: 300 }, (_, i) => i + 1), 1000, 4097, 50257]
  for (const width of widths) {
    const logSums = new Float32Array(1)
    const given = {
      count: 1,
      chunkRows: 1,
      width,
      from: new Float32Array(width),
      fromStride: 4 * width,
      labels: Int32Array.of(0),
      losses: new Float32Array(1),
      logSums,
      smoothing: { float: 0 },
      ofWidth: { float: 1 / width },
    }
    await codes?.losses.run(given, 1, 1)
    const [got, expected] = [logSums[0] as number, Math.log(width)]
    assert.ok(Math.abs(got - expected) <= 2e-7 * expected, `log ${width} is ${expected}, not ${got}`)
  }
})

test('a logit that is no number makes the loss and the gradient of its row none, and of no other', {
  skip,
}, async () => {
  for (const place of [3, 17]) {
    const [count, width] = [3, 19]
    const from = normal(new Random(seed), [count, width]).data
    from[width + place] = NaN
    const [losses, logSums, to] = [new Float32Array(count), new Float32Array(count), new Float32Array(count * width)]
    const given = {
      count,
      chunkRows: 3,
      width,
      from,
      fromStride: 4 * width,
      labels: Int32Array.of(2, 5, 18),
      logSums,
      smoothing: { float: 0 },
      ofWidth: { float: 1 / width },
    }
    await codes?.losses.run({ ...given, losses }, 1, 1)
    const cts = Float32Array.of(1, 1, 1)
    await codes?.grad.run({ ...given, to, toStride: 4 * width, cts }, 1, 1)
    for (const each of [losses, logSums]) assert.deepEqual([...each].map(Number.isNaN), [false, true, false])
    to.forEach((value, i) => assert.equal(Number.isNaN(value), Math.floor(i / width) === 1, `[${i}] is ${value}`))
  }
})

// The kernel of float32 products by itself: operands that lie by rows, by columns and in panels, in batches, beside pages that nobody may touch.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Random } from '../../../src/random/random.ts'
import { emitGemm } from '../../../src/runtime/avx2/kernels/gemm.ts'
import { gemmScratch, operandForms } from '../../../src/runtime/avx2/kernels/gemm-slots.ts'
import { packPanels } from '../../../src/runtime/avx2/packed-weights.ts'
import { normal, seed, skip } from './run-graph.ts'
import { type GivenTo, KernelCode } from './run-kernel.ts'

const roundOff = 2 ** -24
const panelColumns = 16

const codes = skip
  ? null
  : {
      byRow: new KernelCode('gemm', (m) => emitGemm(m, 'byRow'), gemmScratch),
      byColumn: new KernelCode('gemmByColumn', (m) => emitGemm(m, 'byColumn'), gemmScratch),
    }
after(() => {
  for (const code of Object.values(codes ?? {})) code.dispose()
})

interface Product {
  readonly rows: number
  readonly inner: number
  readonly columns: number
  readonly rowsPerChunk: number
  readonly blockInner: number
  readonly chunkPanels: number
  readonly batches: readonly [outer: number, inner: number]
  readonly byColumn: boolean
  readonly form: keyof typeof operandForms
  readonly hasBias: boolean
  readonly isAdded: boolean
  /** Columns behind b's last are written too. */
  readonly wholePanels: boolean
  /** Numbers between the end of a row and the next. */
  readonly gap: number
}

/** A matrix in each of several batches, outer ones around the inner; ends with its last number. */
class Matrices {
  readonly data: Float32Array
  readonly stride: number
  readonly inner: number
  readonly outer: number

  constructor(count: number, width: number, gap: number, batches: readonly [number, number]) {
    this.stride = width + gap
    this.inner = count * this.stride
    this.outer = batches[1] * this.inner
    this.data = new Float32Array(batches[0] * this.outer - gap).fill(NaN)
  }
  at(outer: number, inner: number, row: number, column: number): number {
    return outer * this.outer + inner * this.inner + row * this.stride + column
  }
  fill(count: number, width: number, batches: readonly [number, number], make: () => number): void {
    for (let o = 0; o < batches[0]; o++)
      for (let i = 0; i < batches[1]; i++)
        for (let row = 0; row < count; row++)
          for (let column = 0; column < width; column++) this.data[this.at(o, i, row, column)] = make()
  }
}

async function check(p: Product, random: Random): Promise<void> {
  const { rows, inner, columns, batches, byColumn, form, gap } = p
  const what = `${JSON.stringify(p)}, SEED=${seed}`
  const make = (): number => random.normal()
  const [aRows, aWidth] = byColumn ? [inner, rows] : [rows, inner]
  const [bRows, bWidth] = form === 'columns' ? [columns, inner] : [inner, columns]
  const panels = Math.ceil(columns / panelColumns)
  const ofB: readonly [number, number] = form === 'panels' ? [1, 1] : batches
  const a = new Matrices(aRows, aWidth, gap, batches)
  const b = new Matrices(bRows, bWidth, form === 'panels' ? 0 : gap, ofB)
  a.fill(aRows, aWidth, batches, make)
  b.fill(bRows, bWidth, ofB, make)
  const added = new Matrices(rows, p.wholePanels ? panels * panelColumns : columns, gap, batches)
  added.fill(rows, p.wholePanels ? panels * panelColumns : columns, batches, make)
  const bias = new Float32Array(panels * panelColumns)
  bias.set(normal(random, [columns]).data)
  const packed = new Float32Array(panels * panelColumns * inner)
  if (form === 'panels') packPanels(b.data, { inner, columns, transposed: false }, packed)
  const last = columns - (panels - 1) * panelColumns
  const [rowChunks, columnChunks] = [Math.ceil(rows / p.rowsPerChunk), Math.ceil(panels / p.chunkPanels)]
  const out = new Matrices(rows, p.wholePanels ? panels * panelColumns : columns, gap, batches)
  const given = (): GivenTo<'gemm'> => ({
    rows,
    inner,
    blockInner: p.blockInner,
    panels,
    rowsPerChunk: p.rowsPerChunk,
    rowChunks,
    chunkPanels: p.chunkPanels,
    columnChunks,
    innerBatches: batches[1],
    a: a.data,
    aStride: 4 * a.stride,
    aOuter: 4 * a.outer,
    aInner: 4 * a.inner,
    b: form === 'panels' ? packed : b.data,
    bStride: form === 'panels' ? 4 * panelColumns * inner : 4 * b.stride,
    bOuter: form === 'panels' ? 0 : 4 * b.outer,
    bInner: form === 'panels' ? 0 : 4 * b.inner,
    bForm: operandForms[form],
    bColumns: last,
    bias: p.hasBias ? bias : null,
    added: p.isAdded ? added.data : null,
    addedStride: 4 * added.stride,
    addedOuter: 4 * added.outer,
    addedInner: 4 * added.inner,
    out: out.data.slice(),
    outStride: 4 * out.stride,
    outOuter: 4 * out.outer,
    outInner: 4 * out.inner,
    mask: Int32Array.from({ length: panelColumns }, (_, c) => (c < last ? -1 : 0)),
    isMasked: p.wholePanels || last === panelColumns ? 0 : 1,
  })
  const chunks = rowChunks * columnChunks * batches[0] * batches[1]
  const code = byColumn ? codes!.byColumn : codes!.byRow
  await code.everywhere(given, chunks, ({ out: written }, side) => {
    const seen = new Set<number>()
    for (let o = 0; o < batches[0]; o++)
      for (let i = 0; i < batches[1]; i++)
        for (let row = 0; row < rows; row++)
          for (let column = 0; column < (p.wholePanels ? panels * panelColumns : columns); column++) {
            const isThere = column < columns
            let [sum, size] = [isThere && p.hasBias ? (bias[column] as number) : 0, 0]
            if (p.isAdded) sum += added.data[added.at(o, i, row, column)] as number
            size += Math.abs(sum) + 1
            for (let k = 0; k < (isThere ? inner : 0); k++) {
              const x = a.data[byColumn ? a.at(o, i, k, row) : a.at(o, i, row, k)] as number
              const [bo, bi] = form === 'panels' ? [0, 0] : [o, i]
              const w = b.data[form === 'columns' ? b.at(bo, bi, column, k) : b.at(bo, bi, k, column)] as number
              sum += x * w
              size += Math.abs(x * w)
            }
            const place = out.at(o, i, row, column)
            seen.add(place)
            const got = (written as Float32Array)[place] as number
            const error = Math.abs(got - sum)
            assert.ok(
              error <= (inner + 3) * roundOff * size,
              `${side} [${o},${i},${row},${column}] ${got}: ${sum}, ${what}`,
            )
          }
    // Nothing else was written: not between rows, and not what the last panel lacks.
    ;(written as Float32Array).forEach((value, place) => {
      if (!seen.has(place)) assert.ok(Number.isNaN(value), `${side} ${place} was written, ${what}`)
    })
  })
}

for (const byColumn of [false, true]) {
  for (const form of ['rows', 'columns', 'panels'] as const) {
    test(`rows of a ${byColumn ? 'as columns' : 'as they are'}, b in ${form}: sums are right everywhere, and nothing else is touched`, {
      skip,
    }, async () => {
      const random = new Random(seed)
      let round = 0
      for (const rows of [1, 2, 3, 4, 5, 6, 7, 13, 19]) {
        for (const [inner, blockInner] of [
          [1, 1],
          [7, 7],
          [24, 8],
          [37, 16],
          [256, 256],
        ] as const) {
          for (const columns of [1, 8, 15, 16, 17, 41]) {
            round += 1
            // One of several kinds each, so that all of them meet.
            if ((rows > 7 || inner > 200) && round % 3 !== 0) continue
            await check(
              {
                rows,
                inner,
                columns,
                blockInner,
                byColumn,
                form,
                rowsPerChunk: round % 2 === 0 ? 6 : 12,
                chunkPanels: 1 + (round % 3),
                batches: (
                  [
                    [1, 1],
                    [2, 1],
                    [1, 3],
                    [2, 2],
                  ] as const
                )[round % 4] as readonly [number, number],
                hasBias: round % 5 < 2,
                isAdded: round % 7 < 3,
                wholePanels: round % 11 < 5,
                gap: round % 2 === 0 ? 3 : 0,
              },
              random,
            )
          }
        }
      }
    })
  }
}

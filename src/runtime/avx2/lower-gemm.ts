// Products in float32 as steps: which rows and panels a chunk takes, and where operands lie.
import assert from 'node:assert/strict'
import { blockInnerMax, gemmPanelsMax, operandForms } from './kernels/gemm-slots.ts'
import { tileRows } from './kernels/gemm-tile.ts'
import { panelColumns } from './kernels/packing.ts'
import type { Value } from '../../graph/ops.ts'
import type { Lowering } from './lowering.ts'
import { Storage, type View } from './steps.ts'

/** Chunks of a product for each thread, where it is large enough. */
const chunksPerThread = 6
/** Rows of a chunk at the most: what is multiplied with a block of panels lies in the second cache beside it. */
const chunkRowsMax = 240
/** Fewer rows are not worth packing b once more. */
const chunkRowsMin = 96

/** A matrix, or one in each of several batches: numbers from one batch to the next. */
export interface Operand {
  readonly view: View
  readonly outer?: number
  readonly inner?: number
}

export interface Gemm {
  readonly rows: number
  readonly inner: number
  readonly columns: number
  /** [rows, inner]; [inner, rows] where `byColumn`. */
  readonly a: Operand & { readonly byColumn?: boolean }
  /** [inner, columns]; [columns, inner] where `transposed`; or panels of a frozen matrix. */
  readonly b: (Operand & { readonly transposed?: boolean }) | PackedPanels
  readonly out: Operand
  readonly added?: Operand | null
  /** Of float32 [panel, column]. */
  readonly bias?: number | null
  /** Whether columns that b lacks to fill the last panel are written too, as 0. */
  readonly wholePanels?: boolean
  /** Outer batches and inner ones. */
  readonly batches?: readonly [outer: number, inner: number]
}

/** Columns of a frozen matrix, sixteen in each row of a panel, zeros behind the last. */
export interface PackedPanels {
  readonly panelsAt: number
}

export const panelsOf = (columns: number): number => Math.ceil(columns / panelColumns)

/** out = a · b + bias + added, for each batch. */
export function emitGemm(l: Lowering, { rows, inner, columns, a, b, out, ...rest }: Gemm): void {
  const { added = null, bias = null, wholePanels = false, batches = [1, 1] } = rest
  const all = batches[0] * batches[1]
  const panels = panelsOf(columns)
  if (rows === 0 || columns === 0 || all === 0) return
  assert.ok(inner > 0, 'nothing is summed')
  const chunkPanels = Math.min(panels, gemmPanelsMax)
  const columnChunks = Math.ceil(panels / chunkPanels)
  const wanted = Math.ceil((chunksPerThread * l.threads) / (columnChunks * all))
  const parts = Math.max(Math.ceil(rows / chunkRowsMax), Math.min(wanted, Math.floor(rows / chunkRowsMin)))
  const rowsPerChunk = tileRows * Math.ceil(rows / parts / tileRows)
  const rowChunks = Math.ceil(rows / rowsPerChunk)
  const blocks = Math.ceil(inner / blockInnerMax)
  const last = columns - (panels - 1) * panelColumns
  const resident = (address: number) => ({ place: { storage: new Storage(0, 'resident', { address }), offset: 0 } })
  l.step(a.byColumn === true ? 'gemmByColumn' : 'gemm', rowChunks * columnChunks * all, {
    rows,
    inner,
    blockInner: blocks === 1 ? inner : 8 * Math.ceil(inner / blocks / 8),
    panels,
    rowsPerChunk,
    rowChunks,
    chunkPanels,
    columnChunks,
    innerBatches: batches[1],
    a: { place: a.view },
    aStride: 4 * a.view.stride,
    aOuter: 4 * (a.outer ?? 0),
    aInner: 4 * (a.inner ?? 0),
    ...('panelsAt' in b
      ? { b: resident(b.panelsAt), bStride: 4 * panelColumns * inner, bOuter: 0, bInner: 0, bForm: operandForms.panels }
      : {
          b: { place: b.view },
          bStride: 4 * b.view.stride,
          bOuter: 4 * (b.outer ?? 0),
          bInner: 4 * (b.inner ?? 0),
          bForm: b.transposed === true ? operandForms.columns : operandForms.rows,
        }),
    bColumns: last,
    bias: bias === null ? null : resident(bias),
    added: added && { place: added.view },
    addedStride: 4 * (added?.view.stride ?? 0),
    addedOuter: 4 * (added?.outer ?? 0),
    addedInner: 4 * (added?.inner ?? 0),
    out: { place: out.view },
    outStride: 4 * out.view.stride,
    outOuter: 4 * (out.outer ?? 0),
    outInner: 4 * (out.inner ?? 0),
    mask: resident(l.weights.mask(columns)),
    isMasked: wholePanels || last === panelColumns ? 0 : 1,
  })
}

/** Of a weight packed panels, of anything else where it lies. */
export function matrixOf(l: Lowering, value: Value, transposed: boolean): Gemm['b'] {
  const { node } = value
  if (node.op === 'weight') return { panelsAt: l.weights.panels(node.attributes.name, transposed) }
  return { view: l.view(value), transposed }
}

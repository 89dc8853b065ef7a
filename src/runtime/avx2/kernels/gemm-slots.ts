// What the kernel of float32 products is told, and what it keeps on the stack.
import { type Address, at, rbp, rsp } from '../assembler.ts'
import { panelColumns } from './packing.ts'

/** Products are summed in blocks of so many: a block of a panel, and the same numbers of a few rows, lie in the first cache. */
export const blockInnerMax = 256
/** Panels of a chunk at the most: blocks of all of them lie in the second cache. */
export const gemmPanelsMax = 8

/** Where numbers of a lie that are summed: behind one another in each row, or in each column. */
export type GemmLayout = 'byRow' | 'byColumn'

/** How b lies: its rows behind each other, its columns, or packed panels, whose stride is that from one to the next. */
export const operandForms = { rows: 0, columns: 1, panels: 2 } as const

/** Slots of the arguments, eight bytes each; strides in bytes. Batches are numbered outer, inner. */
export const gemmSlots = [
  'rows',
  'inner',
  'blockInner', // no more than `blockInnerMax`; a multiple of 8 where there are several
  'panels',
  'rowsPerChunk',
  'rowChunks',
  'chunkPanels',
  'columnChunks',
  'innerBatches',
  'a',
  'aStride',
  'aOuter',
  'aInner',
  'b',
  'bStride',
  'bOuter',
  'bInner',
  'bForm', // of `operandForms`
  'bColumns', // of the last panel
  'bias', // float32 [panel, column]; 0: none
  'added', // 0: nothing
  'addedStride',
  'addedOuter',
  'addedInner',
  'out',
  'outStride',
  'outOuter',
  'outInner',
  'mask', // int32 [column] of the last panel, negative where there is a column
  'isMasked', // 0: all columns of the last panel are written, those that b lacks as 0
] as const

/** Of the arguments in rbp. */
export const slot = (name: (typeof gemmSlots)[number]): Address => at(rbp, 8 * gemmSlots.indexOf(name))

/** On the stack. */
export const locals = [
  'a',
  'b',
  'out',
  'bias',
  'source', // what a tile begins with: what is added, or the sums so far; 0: nothing
  'sourceStride',
  'rows',
  'firstPanel',
  'panels',
  'innerLeft',
  'inner', // of this block
  'rowsLeft',
  'aTile',
  'outTile',
  'sourceTile',
  'panelsLeft',
  'mask',
  'outPanel',
  'sourcePanel',
  'packed',
  'panelBlocks', // where the block of the first panel lies, packed
  'panelStep', // from one panel to the next there
  'ahead', // of the next panel's block, what is to be asked for next
  'biasPanel',
  'memory',
] as const
export type Local = (typeof locals)[number]
export const local = (name: Local): Address => at(rsp, 8 * locals.indexOf(name))

/** Of a lane's own memory: a block of a chunk's panels. */
export const gemmScratch = 4 * blockInnerMax * panelColumns * gemmPanelsMax

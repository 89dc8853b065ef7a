// c = a · b + bias + r in float32: a panel of b is packed in a thread's own memory, and all rows of a go over it.
import { type Address, at, r8, r9, r10, r11, r12, r13, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp } from '../assembler.ts'
import type { Label, Register } from '../assembler.ts'
import type { VectorAssembler } from '../vectors.ts'
import { emitPackPanel } from './gemm-pack.ts'
import { emitTile, tileRows } from './gemm-tile.ts'
import { panelColumns } from './packing.ts'

/** Products are summed in blocks of so many: a block of a panel, and the same numbers of a few rows, lie in the first cache. */
export const blockInnerMax = 256
/** Panels and rows of a chunk at the most: blocks of all of them lie in the second cache. */
export const gemmPanelsMax = 8
export const gemmRowsMax = 240

/**
 * Where numbers of a and b lie: those that are multiplied with each other behind one another in each row (`byRow`), or in each
 * column. b is always read by columns of its panels; `bTransposed` says that those lie as rows do.
 */
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

const slot = (name: (typeof gemmSlots)[number]): Address => at(rbp, 8 * gemmSlots.indexOf(name))

/** On the stack. */
const locals = [
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
const local = (name: (typeof locals)[number]): Address => at(rsp, 8 * locals.indexOf(name))

/** Of a lane's own memory: a block of a chunk's panels. */
export const gemmScratch = 4 * blockInnerMax * panelColumns * gemmPanelsMax
/** For each tile: with those of a chunk they come to a block. */
const aheadLines = 8
const packedPanelBytes = 4 * panelColumns * blockInnerMax

/** rdi: arguments; rsi: which chunk: rows inside, columns around them, batches outside; rdx: the lane's memory. */
export function emitGemm(m: VectorAssembler, layout: GemmLayout): void {
  m.arithmetic('subtract', rsp, 8 * locals.length)
  m.move(rbp, rdi)
  m.store(local('memory'), rdx)
  emitPlaces(m, layout)

  const block = m.here()
  m.load(rax, local('innerLeft'))
  m.load(rcx, slot('blockInner'))
  m.atMost(rax, rcx)
  m.store(local('inner'), rax)
  emitPack(m)
  emitPanels(m, layout)
  // The next block adds to what this one has left.
  m.load(rax, local('inner'))
  m.move(rcx, rax)
  if (layout === 'byRow') m.shiftLeft(rcx, 2)
  else m.multiplyAt(rcx, slot('aStride'))
  m.addAt(rcx, local('a'))
  m.store(local('a'), rcx)
  m.load(rcx, local('out'))
  m.store(local('source'), rcx)
  m.load(rcx, slot('outStride'))
  m.store(local('sourceStride'), rcx)
  m.arithmetic('and', rcx, 0)
  m.store(local('bias'), rcx)
  m.load(rcx, local('innerLeft'))
  m.arithmetic('subtract', rcx, rax)
  m.store(local('innerLeft'), rcx)
  m.jumpIf('notEqual', block)
  m.arithmetic('add', rsp, 8 * locals.length)
  m.return()
}

/** What the chunk is about: its rows, its panels, its batch. */
function emitPlaces(m: VectorAssembler, layout: GemmLayout): void {
  const [row, column, inner, outer] = [r8, r9, r10, r11]
  const divide = (by: (typeof gemmSlots)[number], rest: Register): void => {
    m.arithmetic('and', rdx, 0)
    m.load(rcx, slot(by))
    m.divide(rcx)
    m.move(rest, rdx)
  }
  m.move(rax, rsi)
  divide('rowChunks', row)
  divide('columnChunks', column)
  divide('innerBatches', inner)
  m.move(outer, rax)
  m.multiplyAt(row, slot('rowsPerChunk'))
  m.load(rax, slot('rows'))
  m.arithmetic('subtract', rax, row)
  m.load(rcx, slot('rowsPerChunk'))
  m.atMost(rax, rcx)
  m.store(local('rows'), rax)
  m.multiplyAt(column, slot('chunkPanels'))
  m.store(local('firstPanel'), column)
  m.load(rax, slot('panels'))
  m.arithmetic('subtract', rax, column)
  m.load(rcx, slot('chunkPanels'))
  m.atMost(rax, rcx)
  m.store(local('panels'), rax)
  m.load(rax, slot('inner'))
  m.store(local('innerLeft'), rax)

  /** rax = base + outer · its stride + inner · its stride */
  const batchOf = (name: 'a' | 'b' | 'out' | 'added'): void => {
    m.move(rax, outer)
    m.multiplyAt(rax, slot(`${name}Outer`))
    m.move(rcx, inner)
    m.multiplyAt(rcx, slot(`${name}Inner`))
    m.arithmetic('add', rax, rcx)
    m.addAt(rax, slot(name))
  }
  /** rax += row · its stride */
  const rowOf = (stride: Address): void => {
    m.move(rcx, row)
    m.multiplyAt(rcx, stride)
    m.arithmetic('add', rax, rcx)
  }
  batchOf('a')
  if (layout === 'byRow') rowOf(slot('aStride'))
  else m.addressOf(rax, { base: rax, index: row, scale: 4 })
  m.store(local('a'), rax)

  batchOf('b')
  const [byRows, byPanels, known] = [m.label(), m.label(), m.label()]
  m.move(rcx, column)
  m.load(rdx, slot('bForm'))
  m.arithmetic('compare', rdx, operandForms.panels)
  m.jumpIf('equal', byPanels)
  m.multiply(rcx, panelColumns)
  m.arithmetic('compare', rdx, operandForms.rows)
  m.jumpIf('equal', byRows)
  m.place(byPanels)
  m.multiplyAt(rcx, slot('bStride'))
  m.arithmetic('add', rax, rcx)
  m.jump(known)
  m.place(byRows)
  m.addressOf(rax, { base: rax, index: rcx, scale: 4 })
  m.place(known)
  m.store(local('b'), rax)

  // From here on in bytes of the panels before.
  m.multiply(column, 4 * panelColumns)
  batchOf('out')
  rowOf(slot('outStride'))
  m.arithmetic('add', rax, column)
  m.store(local('out'), rax)
  const [bare, noBias] = [m.label(), m.label()]
  m.load(rdx, slot('added'))
  m.store(local('source'), rdx)
  m.arithmetic('compare', rdx, 0)
  m.jumpIf('equal', bare)
  batchOf('added')
  rowOf(slot('addedStride'))
  m.arithmetic('add', rax, column)
  m.store(local('source'), rax)
  m.load(rax, slot('addedStride'))
  m.store(local('sourceStride'), rax)
  m.place(bare)
  m.load(rax, slot('bias'))
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', noBias)
  m.arithmetic('add', rax, column)
  m.place(noBias)
  m.store(local('bias'), rax)
}

/** The block of each panel into the lane's memory, where it does not lie packed; b goes on to the next block. */
function emitPack(m: VectorAssembler): void {
  const [panelsLeft, from, to] = [r13, r12, rdi]
  const [unpacked, ready] = [m.label(), m.label()]
  m.load(rdx, slot('bForm'))
  m.arithmetic('compare', rdx, operandForms.panels)
  m.jumpIf('notEqual', unpacked)
  m.load(rax, local('b'))
  m.store(local('panelBlocks'), rax)
  m.load(rcx, slot('bStride'))
  m.store(local('panelStep'), rcx)
  m.load(rcx, local('inner'))
  m.multiply(rcx, 4 * panelColumns)
  m.arithmetic('add', rax, rcx)
  m.store(local('b'), rax)
  m.jump(ready)
  m.place(unpacked)
  m.load(rax, local('memory'))
  m.store(local('panelBlocks'), rax)
  m.move(rax, packedPanelBytes)
  m.store(local('panelStep'), rax)
  m.load(panelsLeft, local('panels'))
  m.load(from, local('b'))
  m.load(to, local('memory'))
  const [more, byRows, packed, on] = [m.here(), m.label(), m.label(), m.label()]
  // r8: columns of this panel, which is whole but for the last of all.
  m.move(r8, panelColumns)
  m.load(rax, local('firstPanel'))
  m.addAt(rax, local('panels'))
  m.arithmetic('subtract', rax, panelsLeft)
  m.arithmetic('add', rax, 1)
  m.compareAt(rax, slot('panels'))
  m.jumpIf('notEqual', on)
  m.load(r8, slot('bColumns'))
  m.place(on)
  m.load(r9, local('inner'))
  m.load(r10, slot('bStride'))
  m.load(rdx, slot('bForm'))
  m.arithmetic('compare', rdx, operandForms.rows)
  m.jumpIf('equal', byRows)
  emitPackPanel(m, { isTransposed: true })
  m.move(rax, r10)
  m.multiply(rax, panelColumns)
  m.arithmetic('add', from, rax)
  m.jump(packed)
  m.place(byRows)
  emitPackPanel(m, { isTransposed: false })
  m.arithmetic('add', from, 4 * panelColumns)
  m.place(packed)
  m.arithmetic('add', to, packedPanelBytes)
  m.arithmetic('subtract', panelsLeft, 1)
  m.jumpIf('notEqual', more)
  const [rowsNext, done] = [m.label(), m.label()]
  m.load(rax, local('inner'))
  m.load(rdx, slot('bForm'))
  m.arithmetic('compare', rdx, operandForms.rows)
  m.jumpIf('equal', rowsNext)
  m.shiftLeft(rax, 2)
  m.jump(done)
  m.place(rowsNext)
  m.multiply(rax, r10)
  m.place(done)
  m.addAt(rax, local('b'))
  m.store(local('b'), rax)
  m.place(ready)
}

/** One panel of the block after the other: it stays in the first cache while all rows go over it. */
function emitPanels(m: VectorAssembler, layout: GemmLayout): void {
  const copy = (to: (typeof locals)[number], from: (typeof locals)[number]): void => {
    m.load(rax, local(from))
    m.store(local(to), rax)
  }
  copy('packed', 'panelBlocks')
  copy('outPanel', 'out')
  copy('sourcePanel', 'source')
  copy('biasPanel', 'bias')
  copy('panelsLeft', 'panels')
  const panel = m.here()
  const [whole, bare, unbiased] = [m.label(), m.label(), m.label()]
  // A mask where the panel lacks columns; 0: it has all of them, or all are wanted.
  m.arithmetic('and', rcx, 0)
  m.store(local('mask'), rcx)
  m.load(rax, local('panelsLeft'))
  m.arithmetic('compare', rax, 1)
  m.jumpIf('notEqual', whole)
  m.load(rax, local('firstPanel'))
  m.addAt(rax, local('panels'))
  m.compareAt(rax, slot('panels'))
  m.jumpIf('notEqual', whole)
  m.load(rax, slot('isMasked'))
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', whole)
  m.load(rax, slot('mask'))
  m.store(local('mask'), rax)
  m.place(whole)
  m.load(rax, local('packed'))
  m.addAt(rax, local('panelStep'))
  m.store(local('ahead'), rax)
  copy('rowsLeft', 'rows')
  copy('aTile', 'a')
  copy('outTile', 'outPanel')
  copy('sourceTile', 'sourcePanel')
  emitTiles(m, layout)
  const step = (name: (typeof locals)[number], by: number): void => {
    m.load(rax, local(name))
    m.arithmetic('add', rax, by)
    m.store(local(name), rax)
  }
  step('outPanel', 4 * panelColumns)
  m.load(rax, local('packed'))
  m.addAt(rax, local('panelStep'))
  m.store(local('packed'), rax)
  for (const [whatever, ofPanel, skipped] of [
    ['source', 'sourcePanel', bare],
    ['bias', 'biasPanel', unbiased],
  ] as const) {
    m.load(rax, local(whatever))
    m.arithmetic('compare', rax, 0)
    m.jumpIf('equal', skipped)
    step(ofPanel, 4 * panelColumns)
    m.place(skipped)
  }
  step('panelsLeft', -1)
  m.jumpIf('notEqual', panel)
}

/** All rows of the chunk, a few at a time. */
function emitTiles(m: VectorAssembler, layout: GemmLayout): void {
  const tiles = Array.from({ length: tileRows + 1 }, () => m.label())
  const [tile, next] = [m.here(), m.label()]
  m.load(rdi, local('aTile'))
  m.load(rdx, slot('aStride'))
  m.load(rcx, local('packed'))
  m.load(r8, local('inner'))
  m.load(r9, local('biasPanel'))
  m.load(r10, local('outTile'))
  m.load(r11, slot('outStride'))
  m.load(r12, local('sourceTile'))
  m.load(r13, local('sourceStride'))
  m.load(rbx, local('mask'))
  // Weights come from memory: those of the next panel are asked for while tiles of this one are multiplied.
  m.load(rax, local('ahead'))
  for (let line = 0; line < aheadLines; line++) m.prefetch(at(rax, 64 * line))
  m.arithmetic('add', rax, 64 * aheadLines)
  m.store(local('ahead'), rax)
  m.load(rax, local('rowsLeft'))
  for (let rows = tileRows; rows > 1; rows--) {
    m.arithmetic('compare', rax, rows)
    m.jumpIf('greaterOrEqual', tiles[rows] as Label)
  }
  for (let rows = 1; rows <= tileRows; rows++) {
    m.place(tiles[rows] as Label)
    emitTile(m, layout, rows)
    m.move(rsi, rows)
    if (rows < tileRows) m.jump(next)
  }
  m.place(next)
  const onBy = (name: 'aTile' | 'outTile' | 'sourceTile', stride: Address | number): void => {
    m.move(rax, rsi)
    if (typeof stride === 'number') m.multiply(rax, stride)
    else m.multiplyAt(rax, stride)
    m.addAt(rax, local(name))
    m.store(local(name), rax)
  }
  onBy('aTile', layout === 'byRow' ? slot('aStride') : 4)
  onBy('outTile', slot('outStride'))
  const bare = m.label()
  m.load(rcx, local('source'))
  m.arithmetic('compare', rcx, 0)
  m.jumpIf('equal', bare)
  onBy('sourceTile', local('sourceStride'))
  m.place(bare)
  m.load(rax, local('rowsLeft'))
  m.arithmetic('subtract', rax, rsi)
  m.store(local('rowsLeft'), rax)
  m.jumpIf('notEqual', tile)
}

// c = a · b + bias + r in float32: a panel of b is packed in a thread's own memory, or lies packed, and all rows of a go over it.
import { type Address, at, r8, r9, r10, r11, r12, r13, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp } from '../assembler.ts'
import type { Label } from '../assembler.ts'
import type { VectorAssembler } from '../vectors.ts'
import { emitPackPanel } from './gemm-pack.ts'
import { emitPlaces } from './gemm-places.ts'
import { blockInnerMax, type GemmLayout, type Local, local, locals, operandForms, slot } from './gemm-slots.ts'
import { emitTile, tileRows } from './gemm-tile.ts'
import { panelColumns } from './packing.ts'

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
  const copy = (to: Local, from: Local): void => {
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
  const step = (name: Local, by: number): void => {
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

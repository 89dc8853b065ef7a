// y = x · w + b + r: rows of words times weights of some more than 8 bits, exact in integers within each block.
import type { Address } from '../assembler.ts'
import { at, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { type Constants, constantsBase } from './constants.ts'
import { blockPairs, panelColumns, wordsBytes } from './packing.ts'
import { emitTiles } from './product-tiles.ts'

/** Rows that a chunk takes: with its panels they lie in the second cache. */
export const chunkRows = 96
/** Slots of the arguments, eight bytes each. */
export const productSlots = [
  'rows', // words [count, stride]
  'rowScales', // float32 [count]
  'count',
  'rowStride', // bytes
  'weights',
  'panelBytes',
  'weightScales', // float32 [panel, block, column]
  'blocks',
  'lastPairs',
  'panels',
  'chunkPanels',
  'rowChunks',
  'bias', // float32 [panel, column]
  'out',
  'outStride', // bytes
  'added', // 0: nothing
  'addedStride', // bytes
  'mask', // int32 [column] of the last panel, negative where there is a column
  'isMasked',
] as const

const slot = (name: (typeof productSlots)[number]): Address => at(rbp, 8 * productSlots.indexOf(name))

/** Of a lane's own memory: unpacked weights of a block, and the sums of a panel. */
export const productScratch = wordsBytes + 4 * panelColumns * chunkRows

/** On the stack. */
const locals = ['firstRow', 'panelEnd', 'pairs', 'panel', 'constants'] as const
const local = (name: (typeof locals)[number]): Address => at(rsp, 8 * locals.indexOf(name))

/** rdi: arguments; rsi: which chunk, panels outside and rows inside; rdx: the lane's memory. */
export function emitProduct(m: VectorAssembler, c: Constants): void {
  m.arithmetic('subtract', rsp, 8 * locals.length)
  m.store(local('constants'), constantsBase)
  m.move(rbp, rdi)
  m.move(rbx, rdx)
  m.move(rax, rsi)
  m.arithmetic('and', rdx, 0)
  m.load(rcx, slot('rowChunks'))
  m.divide(rcx)
  m.move(r14, rax)
  m.multiply(rdx, chunkRows)
  m.store(local('firstRow'), rdx)
  m.load(r13, slot('count'))
  m.arithmetic('subtract', r13, rdx)
  m.atMost(r13, chunkRows)
  m.multiplyAt(r14, slot('chunkPanels'))
  m.move(rax, r14)
  m.addAt(rax, slot('chunkPanels'))
  m.load(rcx, slot('panels'))
  m.atMost(rax, rcx)
  m.store(local('panelEnd'), rax)

  const panel = m.here()
  m.store(local('panel'), r14)
  emitPanel(m, c)
  m.load(r14, local('panel'))
  emitFinish(m)
  m.arithmetic('add', r14, 1)
  m.load(rax, local('panelEnd'))
  m.arithmetic('compare', r14, rax)
  m.jumpIf('below', panel)
  m.arithmetic('add', rsp, 8 * locals.length)
  m.return()
}

/** Sums of one panel over all blocks: r8 weights, r9 their scales, r10 rows, r11 blocks left, r13 rows, r14 panel. */
function emitPanel(m: VectorAssembler, c: Constants): void {
  m.move(r8, r14)
  m.multiplyAt(r8, slot('panelBytes'))
  m.addAt(r8, slot('weights'))
  m.move(r9, r14)
  m.multiplyAt(r9, slot('blocks'))
  m.multiply(r9, 4 * panelColumns)
  m.addAt(r9, slot('weightScales'))
  m.load(r10, local('firstRow'))
  m.multiplyAt(r10, slot('rowStride'))
  m.addAt(r10, slot('rows'))
  m.load(r11, slot('blocks'))
  emitClear(m)

  const block = m.here()
  const isLast = m.label()
  const known = m.label()
  m.arithmetic('compare', r11, 1)
  m.jumpIf('equal', isLast)
  m.move(rcx, blockPairs)
  m.jump(known)
  m.place(isLast)
  m.load(rcx, slot('lastPairs'))
  m.place(known)
  m.store(local('pairs'), rcx)
  emitTiles(m, c, { constants: local('constants'), pairs: local('pairs'), rowStride: slot('rowStride') })
  m.arithmetic('add', r9, 4 * panelColumns)
  m.arithmetic('add', r10, 4 * blockPairs)
  m.arithmetic('subtract', r11, 1)
  m.jumpIf('notEqual', block)
}

function emitClear(m: VectorAssembler): void {
  m.op('pxor', y(0), y(0), y(0))
  m.addressOf(rdi, at(rbx, wordsBytes))
  m.move(rax, r13)
  const row = m.here()
  m.storeVector('movups', at(rdi), y(0))
  m.storeVector('movups', at(rdi, 32), y(0))
  m.arithmetic('add', rdi, 4 * panelColumns)
  m.arithmetic('subtract', rax, 1)
  m.jumpIf('notEqual', row)
}

/** Sums by the rows' scales, with what is added, to where they are wanted. */
function emitFinish(m: VectorAssembler): void {
  const [rowScale, mask0, mask1] = [y(6), y(7), y(8)]
  m.load(r12, local('firstRow'))
  m.move(rax, r12)
  m.shiftLeft(rax, 2)
  m.addAt(rax, slot('rowScales'))
  m.move(r8, r14)
  m.shiftLeft(r8, 6) // bytes of the panels before
  m.load(rcx, slot('bias'))
  m.arithmetic('add', rcx, r8)
  m.unary('movups', y(2), at(rcx))
  m.unary('movups', y(3), at(rcx, 32))
  m.load(rdx, slot('outStride'))
  m.move(rdi, r12)
  m.multiply(rdi, rdx)
  m.arithmetic('add', rdi, r8)
  m.addAt(rdi, slot('out'))
  m.load(rsi, slot('addedStride'))
  m.multiply(r12, rsi)
  m.arithmetic('add', r12, r8)
  m.load(r9, slot('added'))
  m.arithmetic('add', r12, r9)
  m.load(r11, slot('mask'))
  m.unary('movups', mask0, at(r11))
  m.unary('movups', mask1, at(r11, 32))
  // r10 is 0 only for a panel that has not all of its columns.
  m.load(r10, slot('isMasked'))
  m.load(r15, slot('panels'))
  m.arithmetic('subtract', r15, r14)
  m.arithmetic('subtract', r15, r10)
  m.move(r10, r15)
  m.addressOf(r11, at(rbx, wordsBytes))
  m.move(r15, r13)

  const row = m.here()
  const bare = m.label()
  const masked = m.label()
  const stored = m.label()
  m.unary('broadcastss', rowScale, at(rax))
  m.op('mulps', y(0), rowScale, at(r11))
  m.op('mulps', y(1), rowScale, at(r11, 32))
  m.op('addps', y(0), y(0), y(2))
  m.op('addps', y(1), y(1), y(3))
  m.arithmetic('compare', r9, 0)
  m.jumpIf('equal', bare)
  m.op('addps', y(0), y(0), at(r12))
  m.op('addps', y(1), y(1), at(r12, 32))
  m.arithmetic('add', r12, rsi)
  m.place(bare)
  m.arithmetic('compare', r10, 0)
  m.jumpIf('equal', masked)
  m.storeVector('movups', at(rdi), y(0))
  m.storeVector('movups', at(rdi, 32), y(1))
  m.jump(stored)
  m.place(masked)
  m.storeMasked(at(rdi), mask0, y(0))
  m.storeMasked(at(rdi, 32), mask1, y(1))
  m.place(stored)
  m.arithmetic('add', rdi, rdx)
  m.arithmetic('add', rax, 4)
  m.arithmetic('add', r11, 4 * panelColumns)
  m.arithmetic('subtract', r15, 1)
  m.jumpIf('notEqual', row)
}

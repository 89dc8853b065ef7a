// Where the chunk of a float32 product begins: its number tells which rows, which panels and which batch.
import { type Address, r8, r9, r10, r11, rax, rcx, rdx, rsi } from '../assembler.ts'
import type { Register } from '../assembler.ts'
import type { VectorAssembler } from '../vectors.ts'
import { emitRest } from './constants.ts'
import { type GemmLayout, type gemmSlots, local, operandForms, slot } from './gemm-slots.ts'
import { panelColumns } from './packing.ts'

/** rsi: the chunk. Fills locals with where operands of its first row and panel lie, and how much of them there is. */
export function emitPlaces(m: VectorAssembler, layout: GemmLayout): void {
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
  emitRest(m, { left: rax, free: rcx, from: row, all: slot('rows'), most: slot('rowsPerChunk') })
  m.store(local('rows'), rax)
  m.multiplyAt(column, slot('chunkPanels'))
  m.store(local('firstPanel'), column)
  emitRest(m, { left: rax, free: rcx, from: column, all: slot('panels'), most: slot('chunkPanels') })
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

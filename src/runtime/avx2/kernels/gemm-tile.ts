// A few rows of a times a packed block of one panel of b: sums stay in registers from the first product to the last.
import { type Address, at, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbx, rcx, rdi, rdx, rsi } from '../assembler.ts'
import type { Register } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import type { GemmLayout } from './gemm-slots.ts'
import { panelColumns } from './packing.ts'

/** Two sums for each row, two vectors of b and a few numbers of a fill the sixteen registers. */
export const tileRows = 6
/** Products of each row in one round of the loop. */
const unrolled = 4
const sumsOf = (row: number): readonly [Vector, Vector] => [y(2 * row), y(2 * row + 1)]

/**
 * rdi: a, rdx: bytes from one of its rows (or columns) to the next; rcx: the packed block, r8: how many products; r9: bias, r12: sums to
 * begin with, r13 bytes from row to row (of each, 0: none); r10: where sums go, r11 bytes from row to row; rbx: a mask of columns, 0: all
 * are written. Overwrites all but rbp and rsp.
 */
export function emitTile(m: VectorAssembler, layout: GemmLayout, rows: number): void {
  emitBegin(m, rows)
  const few = layout === 'byRow' ? rows > 3 : true
  if (few) {
    // Addresses are of three rows at the most from one register.
    m.addressOf(rsi, { base: layout === 'byRow' ? rdi : rdx, index: rdx, scale: 2 })
    if (layout === 'byRow') m.arithmetic('add', rsi, rdx)
  }
  const [rest, done] = [m.label(), m.label()]
  m.move(rax, r8)
  m.shiftRight(rax, Math.log2(unrolled))
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', rest)
  const isAhead = layout === 'byRow' && rows === tileRows
  if (isAhead) {
    emitThreeOn(m, r12, rsi, rdx, rows)
    emitThreeOn(m, r15, r12, rdx, rows)
  }
  const more = m.here()
  // Rows of the next tile are asked for: of each there is too little for the processor to notice in time.
  if (isAhead) for (let row = 0; row < rows; row++) m.prefetch(ofRow(r12, r15, rdx, row))
  for (let u = 0; u < unrolled; u++) emitProducts(m, rows, u, layout)
  if (isAhead) {
    m.arithmetic('add', r12, 4 * unrolled)
    m.arithmetic('add', r15, 4 * unrolled)
  }
  emitOn(m, layout, rows, unrolled)
  m.arithmetic('subtract', rax, 1)
  m.jumpIf('notEqual', more)
  m.place(rest)
  m.arithmetic('and', r8, unrolled - 1)
  m.jumpIf('equal', done)
  const one = m.here()
  emitProducts(m, rows, 0, layout)
  emitOn(m, layout, rows, 1)
  m.arithmetic('subtract', r8, 1)
  m.jumpIf('notEqual', one)
  m.place(done)
  emitEnd(m, rows)
}

/** Of each row, product number `u` of the round. */
function emitProducts(m: VectorAssembler, rows: number, u: number, layout: GemmLayout): void {
  const [left, right] = [y(12), y(13)]
  m.unary('movups', left, at(rcx, 4 * panelColumns * u))
  m.unary('movups', right, at(rcx, 4 * panelColumns * u + 32))
  for (let row = 0; row < rows; row++) {
    const factor = y(14 + (row % 2))
    const [first, second] = sumsOf(row)
    m.unary('broadcastss', factor, layout === 'byRow' ? ofRow(rdi, rsi, rdx, row, 4 * u) : ofColumn(u, row))
    m.op('fmadd231ps', first, left, factor)
    m.op('fmadd231ps', second, right, factor)
  }
}

function ofColumn(u: number, row: number): Address {
  const offset = 4 * row
  if (u === 0) return at(rdi, offset)
  return u === 3 ? { base: rdi, index: rsi, scale: 1, offset } : { base: rdi, index: rdx, scale: u as 1 | 2, offset }
}

/** `later` is three rows behind `base`. */
function ofRow(base: Register, later: Register, stride: Register, row: number, offset = 0): Address {
  const from = row < 3 ? base : later
  return row % 3 === 0 ? at(from, offset) : { base: from, index: stride, scale: (row % 3) as 1 | 2, offset }
}

function emitOn(m: VectorAssembler, layout: GemmLayout, rows: number, products: number): void {
  m.arithmetic('add', rcx, 4 * panelColumns * products)
  if (layout === 'byRow') {
    m.arithmetic('add', rdi, 4 * products)
    if (rows > 3) m.arithmetic('add', rsi, 4 * products)
  } else if (products === 1) m.arithmetic('add', rdi, rdx)
  else m.addressOf(rdi, { base: rdi, index: rdx, scale: products as 4 })
}

/** Sums begin with the bias of each column, and with what is added to each row. */
function emitBegin(m: VectorAssembler, rows: number): void {
  const [bare, biased, begun, masked] = [m.label(), m.label(), m.label(), m.label()]
  m.arithmetic('compare', r9, 0)
  m.jumpIf('equal', bare)
  for (let row = 0; row < rows; row++) {
    for (const [half, sum] of sumsOf(row).entries()) m.unary('movups', sum, at(r9, 32 * half))
  }
  m.jump(biased)
  m.place(bare)
  for (let i = 0; i < 2 * rows; i++) m.op('pxor', y(i), y(i), y(i))
  m.place(biased)
  m.arithmetic('compare', r12, 0)
  m.jumpIf('equal', begun)
  emitThreeOn(m, r15, r12, r13, rows)
  m.arithmetic('compare', rbx, 0)
  m.jumpIf('notEqual', masked)
  for (let row = 0; row < rows; row++) {
    for (const [half, sum] of sumsOf(row).entries()) m.op('addps', sum, sum, ofRow(r12, r15, r13, row, 32 * half))
  }
  m.jump(begun)
  m.place(masked)
  const [mask0, mask1, added] = [y(12), y(13), y(14)]
  m.unary('movups', mask0, at(rbx))
  m.unary('movups', mask1, at(rbx, 32))
  for (let row = 0; row < rows; row++) {
    for (const [half, sum] of sumsOf(row).entries()) {
      m.loadMasked(added, half === 0 ? mask0 : mask1, ofRow(r12, r15, r13, row, 32 * half))
      m.op('addps', sum, sum, added)
    }
  }
  m.place(begun)
}

function emitEnd(m: VectorAssembler, rows: number): void {
  const [masked, stored] = [m.label(), m.label()]
  emitThreeOn(m, r14, r10, r11, rows)
  m.arithmetic('compare', rbx, 0)
  m.jumpIf('notEqual', masked)
  for (let row = 0; row < rows; row++) {
    for (const [half, sum] of sumsOf(row).entries()) m.storeVector('movups', ofRow(r10, r14, r11, row, 32 * half), sum)
  }
  m.jump(stored)
  m.place(masked)
  const [mask0, mask1] = [y(12), y(13)]
  m.unary('movups', mask0, at(rbx))
  m.unary('movups', mask1, at(rbx, 32))
  for (let row = 0; row < rows; row++) {
    for (const [half, sum] of sumsOf(row).entries())
      m.storeMasked(ofRow(r10, r14, r11, row, 32 * half), half === 0 ? mask0 : mask1, sum)
  }
  m.place(stored)
}

function emitThreeOn(m: VectorAssembler, to: Register, base: Register, stride: Register, rows: number): void {
  if (rows <= 3) return
  m.addressOf(to, { base, index: stride, scale: 2 })
  m.arithmetic('add', to, stride)
}

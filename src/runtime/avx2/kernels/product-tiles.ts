// A block of weights times all rows of a chunk: the first rows unpack it, the others find words.
import type { Address, Label } from '../assembler.ts'
import { at, r8, r9, r10, r12, r13, r14, r15, rax, rbx, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import type { Constants } from './constants.ts'
import { blockBytes, blockPairs, lowBits, pairsTogether, panelColumns, wordsBytes } from './packing.ts'

/** Rows that unpack a block: beside their sums there is room for what unpacking takes. */
const firstRows = 4
/** Rows that find it unpacked. */
const laterRows = 6
/** Pairs of inputs in one round of their loop. */
const unrolled = 4

/** Where the kernel keeps what a block is about. */
export interface BlockLocals {
  readonly constants: Address
  readonly pairs: Address
  readonly rowStride: Address
}

/**
 * r8: the block, behind which it moves; r9: its scales; r10: rows as words; r13: how many; rbx: the lane's memory, with the block as
 * words and behind it the sums that this adds to. Left alone are r9, r10, r11, r13, rbx and rbp.
 */
export function emitTiles(m: VectorAssembler, c: Constants, locals: BlockLocals): void {
  const [rest, done] = [m.label(), m.label()]
  m.load(rcx, locals.rowStride)
  m.move(rdx, r10)
  m.addressOf(rdi, at(rbx, wordsBytes))
  emitByCount(m, r13, firstRows, (rows) => {
    emitFirstTile(m, c, rows, locals)
    if (rows < firstRows) m.jump(done)
    else {
      m.move(rax, r13)
      m.arithmetic('subtract', rax, rows)
      m.jumpIf('equal', done)
      m.jump(rest)
    }
  })
  m.place(rest)
  // What comes after the next block is asked for while there is much to compute.
  m.addressOf(r14, at(r8, blockBytes(blockPairs)))
  const next = m.here()
  emitByCount(m, rax, laterRows, (rows) => {
    emitLaterTile(m, rows, locals)
    m.arithmetic('subtract', rax, rows)
    m.jumpIf('notEqual', next)
    m.jump(done)
  })
  m.place(done)
}

/** Code for each count up to `most`, of which one runs: the largest that `count` reaches. It jumps away at its end. */
function emitByCount(m: VectorAssembler, count: typeof rax, most: number, emit: (rows: number) => void): void {
  const tiles: Label[] = []
  for (let rows = most; rows > 1; rows--) {
    const tile = m.label()
    tiles[rows] = tile
    m.arithmetic('compare', count, rows)
    m.jumpIf('greaterOrEqual', tile)
  }
  for (let rows = 1; rows <= most; rows++) {
    if (rows > 1) m.place(tiles[rows] as Label)
    emit(rows)
  }
}

/** The block, unpacked, times the first rows; where these may not be all, its words are kept. */
function emitFirstTile(m: VectorAssembler, c: Constants, rows: number, locals: BlockLocals): void {
  const [left, right, lows, mask, factor, product] = [y(8), y(9), y(12), y(13), y(14), y(15)]
  const [pairBytes, groupBytes] = [2 * panelColumns, blockBytes(pairsTogether)]
  m.load(r14, locals.constants)
  m.unary('movups', mask, c.bits(((0xff << (8 - lowBits)) & 0xff) * 0x1010101))
  emitLastRows(m, rows)
  m.load(r15, locals.pairs)
  m.move(r12, rbx)
  clear(m, rows)
  const more = m.here()
  for (let line = 0; line < groupBytes; line += 64) m.prefetch(at(r8, blockBytes(blockPairs) + line))
  m.unary('movups', lows, at(r8, pairsTogether * pairBytes))
  for (let pair = 0; pair < pairsTogether; pair++) {
    // The upper byte of a word, behind it the low bits, and nothing: moved down they are the weight.
    if (pair > 0) m.shift('psllw', product, lows, pair * lowBits)
    m.op('pand', product, pair > 0 ? product : lows, mask)
    m.op('punpcklbw', left, product, at(r8, pair * pairBytes))
    m.op('punpckhbw', right, product, at(r8, pair * pairBytes))
    m.shift('psraw', left, left, 8 - lowBits)
    m.shift('psraw', right, right, 8 - lowBits)
    if (rows === firstRows) {
      m.storeVector('movups', at(r12, 64 * pair), left)
      m.storeVector('movups', at(r12, 64 * pair + 32), right)
    }
    emitPair(m, rows, 4 * pair, { left, right, factor, product })
  }
  m.arithmetic('add', r8, groupBytes)
  if (rows === firstRows) m.arithmetic('add', r12, 64 * pairsTogether)
  emitOn(m, rows, pairsTogether)
  m.arithmetic('subtract', r15, pairsTogether)
  m.jumpIf('notEqual', more)
  emitSums(m, rows, locals)
}

function emitLaterTile(m: VectorAssembler, rows: number, locals: BlockLocals): void {
  const [left, right, factor, product] = [y(12), y(13), y(14), y(15)]
  emitLastRows(m, rows)
  m.move(r12, rbx)
  m.load(r15, locals.pairs)
  m.shiftRight(r15, Math.log2(unrolled))
  clear(m, rows)
  const more = m.here()
  m.prefetch(at(r14))
  m.arithmetic('add', r14, 64)
  for (let u = 0; u < unrolled; u++) {
    m.unary('movups', left, at(r12, 64 * u))
    m.unary('movups', right, at(r12, 64 * u + 32))
    emitPair(m, rows, 4 * u, { left, right, factor, product })
  }
  m.arithmetic('add', r12, 64 * unrolled)
  emitOn(m, rows, unrolled)
  m.arithmetic('subtract', r15, 1)
  m.jumpIf('notEqual', more)
  emitSums(m, rows, locals)
}

/** Addresses are of three rows at the most from one register: rsi is the fourth. */
function emitLastRows(m: VectorAssembler, rows: number): void {
  if (rows <= 3) return
  m.addressOf(rsi, { base: rdx, index: rcx, scale: 2 })
  m.arithmetic('add', rsi, rcx)
}

function clear(m: VectorAssembler, rows: number): void {
  for (let i = 0; i < 2 * rows; i++) m.op('pxor', y(i), y(i), y(i))
}

/** One pair of inputs of each row, `offset` bytes on, times those of all columns. */
function emitPair(
  m: VectorAssembler,
  rows: number,
  offset: number,
  { left, right, factor, product }: Readonly<Record<'left' | 'right' | 'factor' | 'product', Vector>>,
): void {
  for (let r = 0; r < rows; r++) {
    const base = r < 3 ? rdx : rsi
    const from = r % 3 === 0 ? at(base, offset) : { base, index: rcx, scale: (r % 3) as 1 | 2, offset }
    m.unary('pbroadcastd', factor, from)
    m.op('pmaddwd', product, left, factor)
    m.op('paddd', y(2 * r), y(2 * r), product)
    m.op('pmaddwd', product, right, factor)
    m.op('paddd', y(2 * r + 1), y(2 * r + 1), product)
  }
}

function emitOn(m: VectorAssembler, rows: number, pairs: number): void {
  m.arithmetic('add', rdx, 4 * pairs)
  if (rows > 3) m.arithmetic('add', rsi, 4 * pairs)
}

/** Adds the block's sums, by its scales, to those at rdi; rdx and rdi go on to the rows behind. */
function emitSums(m: VectorAssembler, rows: number, locals: BlockLocals): void {
  const [left, right, sum] = [y(12), y(13), y(15)]
  m.unary('movups', left, at(r9))
  m.unary('movups', right, at(r9, 32))
  for (let i = 0; i < 2 * rows; i++) {
    m.unary('cvtdq2ps', y(i), y(i))
    m.unary('movups', sum, at(rdi, 32 * i))
    m.op('fmadd231ps', sum, y(i), i % 2 === 0 ? left : right)
    m.storeVector('movups', at(rdi, 32 * i), sum)
  }
  m.arithmetic('add', rdi, 4 * panelColumns * rows)
  m.load(r15, locals.pairs)
  m.shiftLeft(r15, 2)
  m.arithmetic('subtract', rdx, r15)
  m.move(r15, rcx)
  m.multiply(r15, rows)
  m.arithmetic('add', rdx, r15)
}

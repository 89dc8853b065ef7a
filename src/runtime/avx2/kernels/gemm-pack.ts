// A block of sixteen columns of a matrix, put in the order in which tiles read it: sixteen numbers for each product.
import { at, r8, r9, r10, r11, r12, r14, r15, rax, rbx, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import { emitEightRows } from './constants.ts'
import { panelColumns } from './packing.ts'

/**
 * r12: the first number, r10: bytes from one row of the matrix to the next; r9: how many numbers of each column, of r8 columns, of which
 * those that lack are 0; rdi: where to. `isTransposed`: the matrix has its columns as rows. Left alone are r8 to r10, r12, r13, rdi, rbp and rsp.
 */
export function emitPackPanel(m: VectorAssembler, { isTransposed }: { readonly isTransposed: boolean }): void {
  const [narrow, done] = [m.label(), m.label()]
  m.arithmetic('compare', r8, panelColumns)
  m.jumpIf('notEqual', narrow)
  if (isTransposed) emitTransposed(m)
  else emitRows(m)
  m.jump(done)
  m.place(narrow)
  emitNarrow(m, isTransposed)
  m.place(done)
}

/** Two vectors of each row. */
function emitRows(m: VectorAssembler): void {
  m.move(rsi, r12)
  m.move(rcx, rdi)
  m.move(rax, r9)
  const more = m.here()
  m.unary('movups', y(0), at(rsi))
  m.unary('movups', y(1), at(rsi, 32))
  m.storeVector('movups', at(rcx), y(0))
  m.storeVector('movups', at(rcx, 32), y(1))
  m.arithmetic('add', rsi, r10)
  m.arithmetic('add', rcx, 4 * panelColumns)
  m.arithmetic('subtract', rax, 1)
  m.jumpIf('notEqual', more)
}

/** Squares of eight by eight, of the first eight columns and of the others; what is left behind them one by one. */
function emitTransposed(m: VectorAssembler): void {
  const [three, six] = [r14, r15]
  m.move(rsi, r12)
  m.move(rbx, rdi)
  m.move(r11, panelColumns / 8)
  const half = m.here()
  const [squares, rest, halfDone] = [m.label(), m.label(), m.label()]
  m.move(rdx, rsi)
  m.move(rcx, rbx)
  m.move(rax, r9)
  m.place(squares)
  m.arithmetic('compare', rax, 8)
  m.jumpIf('less', rest)
  const rows = emitEightRows(m, { base: rdx, stride: r10, three, six })
  for (const [i, row] of rows(0).entries()) m.unary('movups', y(i), row)
  emitSquare(m, (column, vector) => m.storeVector('movups', at(rcx, 4 * panelColumns * column), vector))
  m.arithmetic('add', rdx, 32)
  m.arithmetic('add', rcx, 4 * panelColumns * 8)
  m.arithmetic('subtract', rax, 8)
  m.jump(squares)
  m.place(rest)
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', halfDone)
  const one = m.here()
  m.move(three, rdx)
  for (let row = 0; row < 8; row++) {
    m.loadFloat(y(0), at(three))
    m.storeFloat(at(rcx, 4 * row), y(0))
    m.arithmetic('add', three, r10)
  }
  m.arithmetic('add', rdx, 4)
  m.arithmetic('add', rcx, 4 * panelColumns)
  m.arithmetic('subtract', rax, 1)
  m.jumpIf('notEqual', one)
  m.place(halfDone)
  m.addressOf(rsi, { base: rsi, index: r10, scale: 8 })
  m.arithmetic('add', rbx, 32)
  m.arithmetic('subtract', r11, 1)
  m.jumpIf('notEqual', half)
}

/** Rows in y0 to y7; `store` gets each column. */
function emitSquare(m: VectorAssembler, store: (column: number, vector: Vector) => void): void {
  // Pairs of rows by turns, then fours of them, then halves.
  for (let pair = 0; pair < 4; pair++) {
    m.op('unpcklps', y(8 + 2 * pair), y(2 * pair), y(2 * pair + 1))
    m.op('unpckhps', y(9 + 2 * pair), y(2 * pair), y(2 * pair + 1))
  }
  for (let four = 0; four < 2; four++) {
    for (let upper = 0; upper < 2; upper++) {
      const [first, second] = [y(8 + 4 * four + upper), y(10 + 4 * four + upper)]
      m.shuffleBoth(y(4 * four + 2 * upper), first, second, [0, 1, 0, 1])
      m.shuffleBoth(y(4 * four + 2 * upper + 1), first, second, [2, 3, 2, 3])
    }
  }
  for (let column = 0; column < 4; column++) {
    m.halves(y(8), y(column), y(4 + column), 0, 2)
    store(column, y(8))
    m.halves(y(9), y(column), y(4 + column), 1, 3)
    store(4 + column, y(9))
  }
}

/** Fewer columns, number by number. */
function emitNarrow(m: VectorAssembler, isTransposed: boolean): void {
  const [columnStep, innerStep] = [r14, r15]
  if (isTransposed) {
    m.move(columnStep, r10)
    m.move(innerStep, 4)
  } else {
    m.move(columnStep, 4)
    m.move(innerStep, r10)
  }
  m.op('pxor', y(1), y(1), y(1))
  m.move(rsi, r12)
  m.move(rcx, rdi)
  m.move(rax, r9)
  const more = m.here()
  m.storeVector('movups', at(rcx), y(1))
  m.storeVector('movups', at(rcx, 32), y(1))
  m.move(rdx, rsi)
  m.move(rbx, rcx)
  m.move(r11, r8)
  const column = m.here()
  m.loadFloat(y(0), at(rdx))
  m.storeFloat(at(rbx), y(0))
  m.arithmetic('add', rdx, columnStep)
  m.arithmetic('add', rbx, 4)
  m.arithmetic('subtract', r11, 1)
  m.jumpIf('notEqual', column)
  m.arithmetic('add', rsi, innerStep)
  m.arithmetic('add', rcx, 4 * panelColumns)
  m.arithmetic('subtract', rax, 1)
  m.jumpIf('notEqual', more)
}

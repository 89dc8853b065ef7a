// Attention of some queries of one head: scores of past and new keys, one softmax over both, and the values weighted by it.
import { at, r8, r9, r10, r11, r12, r13, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp } from '../assembler.ts'
import type { Address, Label } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { emitScores, emitWeighted } from './attention-passes.ts'
import { type Constants, emitExp, emitLargest, emitSum } from './constants.ts'

/** Strides are in bytes. A chunk is one block of queries of one head of a row: rows outside, blocks inside. */
export const attentionSlots = [
  'query',
  'queryStride',
  'queries', // of a row
  'pastKey', // float32 [row, heads, position, headDim]
  'pastValue',
  'pastRow', // bytes from row to row; 0: all have the same
  'pastHead',
  'pastLengths', // int32 [row]
  'lengthStep', // bytes from row to row
  'key', // of the new ones; 0: there are none
  'value',
  'keyStride', // from position to position
  'valueStride',
  'keyRow', // from row to row
  'valueRow',
  'keyHead', // from head to head
  'valueHead',
  'keys', // of a row
  'keyLengths', // int32 [row]; 0: causal
  'heads',
  'out',
  'outStride',
  'scale', // float32
  'blocks', // of queries
  'blockQueries',
  'scoreStride', // bytes
  'room', // positions of a row of the past, behind whose last the new ones are put; 0: they are not
] as const
const slot = (name: (typeof attentionSlots)[number]): Address => at(rbp, 8 * attentionSlots.indexOf(name))

/** Queries of a chunk at the most. */
export const blockQueries = 16
/** Bytes of the scores of one query that sees so many positions at the most. */
export const scoreBytes = (positions: number): number => 32 * (Math.ceil(positions / 8) + 1)
/** Of a lane's memory. */
export const attentionScratch = (positions: number): number => blockQueries * (scoreBytes(positions) + 4)

const hidden = -1e30
/** Keys, or values, that all queries go through before the next: they stay in a core's first cache. */
const blockPositions = 64
const locals = [
  'pastKey',
  'pastValue',
  'key',
  'value',
  'pastCount',
  'newCount',
  'first',
  'end',
  'query',
  'out',
] as const
const local = (name: (typeof locals)[number]): Address => at(rsp, 8 * locals.indexOf(name))

/** For heads of `headDim` numbers, a multiple of 8. rdi: arguments; rsi: which chunk; rdx: the lane's memory. */
export function emitAttention(m: VectorAssembler, c: Constants, headDim: number): void {
  const [scores, weighted] = [m.label(), m.label()]
  m.arithmetic('subtract', rsp, 8 * locals.length)
  m.move(rbp, rdi)
  m.move(rbx, rdx)
  emitPlaces(m, headDim)
  emitAppend(m, headDim)
  for (const piece of ['past', 'new'] as const) emitBlocks(m, { piece, of: 'keys', headDim }, scores)
  emitSoftmaxes(m, c)
  emitEachQuery(m, () => {
    m.op('pxor', y(0), y(0), y(0))
    for (let d = 0; d < headDim / 8; d++) m.storeVector('movups', at(rdi, 32 * d), y(0))
  })
  for (const piece of ['past', 'new'] as const) emitBlocks(m, { piece, of: 'values', headDim }, weighted)
  emitEachQuery(m, () => {
    m.unary('broadcastss', y(1), { base: rbx, index: r12, scale: 4 })
    for (let d = 0; d < headDim / 8; d++) {
      m.op('mulps', y(0), y(1), at(rdi, 32 * d))
      m.storeVector('movups', at(rdi, 32 * d), y(0))
    }
  })
  m.arithmetic('add', rsp, 8 * locals.length)
  m.return()

  m.place(scores)
  emitScores(m, headDim)
  m.place(weighted)
  emitWeighted(m, headDim)
}

/** Runs `body` for each query of the chunk: r12 its number there, rsi where it lies, rdi its result, r13 its scores. It leaves these and r10, r11 alone. */
function emitEachQuery(m: VectorAssembler, body: () => void): void {
  m.move(r12, 0)
  m.load(rsi, local('query'))
  m.load(rdi, local('out'))
  // Before them lies what each query's result is multiplied by at last.
  m.addressOf(r13, at(rbx, 4 * blockQueries))
  const query = m.here()
  body()
  m.addAt(rsi, slot('queryStride'))
  m.addAt(rdi, slot('outStride'))
  m.addAt(r13, slot('scoreStride'))
  m.arithmetic('add', r12, 1)
  m.load(rax, local('first'))
  m.arithmetic('add', rax, r12)
  m.load(rcx, local('end'))
  m.arithmetic('compare', rax, rcx)
  m.jumpIf('below', query)
}

/** To rdx, how many of the new keys the query of number r12 sees. Overwrites rax. */
function emitNewCount(m: VectorAssembler): void {
  const known = m.label()
  m.load(rdx, local('newCount'))
  m.load(rax, slot('keyLengths'))
  m.arithmetic('compare', rax, 0)
  m.jumpIf('notEqual', known)
  m.load(rax, slot('key'))
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', known)
  m.load(rdx, local('first'))
  m.arithmetic('add', rdx, r12)
  m.arithmetic('add', rdx, 1)
  m.place(known)
}

interface Piece {
  readonly piece: 'past' | 'new'
  readonly of: 'keys' | 'values'
  readonly headDim: number
}

/**
 * Calls `sub` for each block of positions and each query that sees some of it: rax where the block lies, rcx from position to
 * position, rdx how many, r15 their scores; and as in `emitEachQuery`.
 */
function emitBlocks(m: VectorAssembler, { piece, of, headDim }: Piece, sub: Label): void {
  const isPast = piece === 'past'
  const [block, done] = [r10, m.label()]
  const place = isPast ? (of === 'keys' ? 'pastKey' : 'pastValue') : of === 'keys' ? 'key' : 'value'
  const stride = (): void => {
    if (isPast) m.move(rcx, 4 * headDim)
    else m.load(rcx, slot(of === 'keys' ? 'keyStride' : 'valueStride'))
  }
  m.load(block, local(place))
  m.move(r11, 0)
  const more = m.here()
  // The last query sees the most.
  if (isPast) m.load(rdx, local('pastCount'))
  else {
    m.load(r12, local('end'))
    m.load(rax, local('first'))
    m.arithmetic('subtract', r12, rax)
    m.arithmetic('subtract', r12, 1)
    emitNewCount(m)
  }
  m.arithmetic('compare', r11, rdx)
  m.jumpIf('greaterOrEqual', done)
  emitEachQuery(m, () => {
    const none = m.label()
    if (isPast) m.load(rdx, local('pastCount'))
    else emitNewCount(m)
    m.arithmetic('subtract', rdx, r11)
    m.jumpIf('lessOrEqual', none)
    m.atMost(rdx, blockPositions)
    m.addressOf(r15, { base: r13, index: r11, scale: 4 })
    if (!isPast) {
      m.load(rax, local('pastCount'))
      m.addressOf(r15, { base: r15, index: rax, scale: 4 })
    }
    m.move(rax, block)
    stride()
    m.call(sub)
    m.place(none)
  })
  stride()
  m.multiply(rcx, blockPositions)
  m.arithmetic('add', block, rcx)
  m.arithmetic('add', r11, blockPositions)
  m.jump(more)
  m.place(done)
}

/** What the chunk's number stands for: the locals, and r12, its first query. */
function emitPlaces(m: VectorAssembler, headDim: number): void {
  const divide = (by: Address): void => {
    m.load(rcx, by)
    m.arithmetic('and', rdx, 0)
    m.divide(rcx)
  }
  m.move(rax, rsi)
  divide(slot('blocks'))
  m.move(r12, rdx)
  m.multiplyAt(r12, slot('blockQueries'))
  divide(slot('heads'))
  const [row, head] = [r8, r9]
  m.move(row, rax)
  m.move(head, rdx)
  m.move(rax, r12)
  m.addAt(rax, slot('blockQueries'))
  m.load(rcx, slot('queries'))
  m.atMost(rax, rcx)
  m.store(local('end'), rax)
  m.store(local('first'), r12)

  for (const [name, ofRow, ofHead] of [
    ['pastKey', 'pastRow', 'pastHead'],
    ['pastValue', 'pastRow', 'pastHead'],
    ['key', 'keyRow', 'keyHead'],
    ['value', 'valueRow', 'valueHead'],
  ] as const) {
    m.move(rax, row)
    m.multiplyAt(rax, slot(ofRow))
    m.move(rcx, head)
    m.multiplyAt(rcx, slot(ofHead))
    m.arithmetic('add', rax, rcx)
    m.addAt(rax, slot(name))
    m.store(local(name), rax)
  }
  for (const [name, stride] of [
    ['query', 'queryStride'],
    ['out', 'outStride'],
  ] as const) {
    m.move(rax, row)
    m.multiplyAt(rax, slot('queries'))
    m.arithmetic('add', rax, r12)
    m.multiplyAt(rax, slot(stride))
    m.move(rcx, head)
    m.multiply(rcx, 4 * headDim)
    m.arithmetic('add', rax, rcx)
    m.addAt(rax, slot(name))
    m.store(local(name), rax)
  }

  m.load(rax, slot('pastLengths'))
  m.move(rcx, row)
  m.multiplyAt(rcx, slot('lengthStep'))
  m.loadInt(rax, { base: rax, index: rcx })
  m.store(local('pastCount'), rax)
  // Without lengths of new keys: none, unless attention is causal.
  const stored = m.label()
  m.load(rcx, slot('keyLengths'))
  m.move(rax, rcx)
  m.arithmetic('compare', rcx, 0)
  m.jumpIf('equal', stored)
  m.loadInt(rax, { base: rcx, index: row, scale: 4 })
  m.place(stored)
  m.store(local('newCount'), rax)
}

/** New keys and values of the chunk's positions go behind the past, where there is room: nobody reads them there in this run. */
function emitAppend(m: VectorAssembler, headDim: number): void {
  const none = m.label()
  const [count, from, to, left] = [r8, r9, r10, rcx]
  m.load(count, slot('room'))
  m.arithmetic('compare', count, 0)
  m.jumpIf('equal', none)
  m.load(rax, local('pastCount'))
  m.arithmetic('subtract', count, rax)
  m.load(rdx, local('end'))
  m.atMost(count, rdx)
  m.arithmetic('subtract', count, r12)
  m.jumpIf('lessOrEqual', none)
  m.arithmetic('add', rax, r12)
  m.multiply(rax, 4 * headDim)
  for (const [fresh, past, stride] of [
    ['key', 'pastKey', 'keyStride'],
    ['value', 'pastValue', 'valueStride'],
  ] as const) {
    m.move(from, r12)
    m.multiplyAt(from, slot(stride))
    m.addAt(from, local(fresh))
    m.load(to, local(past))
    m.arithmetic('add', to, rax)
    m.move(left, count)
    const more = m.here()
    for (let d = 0; d < headDim / 8; d++) {
      m.unary('movups', y(0), at(from, 32 * d))
      m.storeVector('movups', at(to, 32 * d), y(0))
    }
    m.addAt(from, slot(stride))
    m.arithmetic('add', to, 4 * headDim)
    m.arithmetic('subtract', left, 1)
    m.jumpIf('notEqual', more)
  }
  m.place(none)
}

/** Scores of each query become exponentials, and one over their sum is put before all scores. */
function emitSoftmaxes(m: VectorAssembler, c: Constants): void {
  const [largest, scale, sum] = [y(9), y(12), y(13)]
  emitEachQuery(m, () => {
    emitNewCount(m)
    m.load(rax, local('pastCount'))
    m.arithmetic('add', rdx, rax)
    m.addressOf(r15, { base: r13, index: rdx, scale: 4 })
    // What is behind the last, to the next multiple of eight, counts for nothing.
    m.unary('movups', largest, c.float(hidden))
    m.storeVector('movups', at(r15), largest)
    m.move(rax, r13)
    const higher = m.here()
    m.op('maxps', largest, largest, at(rax))
    m.arithmetic('add', rax, 32)
    m.arithmetic('compare', rax, r15)
    m.jumpIf('below', higher)
    emitLargest(m, largest, y(0))
    m.unary('broadcastss', largest, largest)
    m.unary('broadcastss', scale, slot('scale'))
    m.op('pxor', sum, sum, sum)
    m.move(rax, r13)
    const more = m.here()
    m.unary('movups', y(0), at(rax))
    m.op('subps', y(0), y(0), largest)
    m.op('mulps', y(0), y(0), scale)
    emitExp(m, c, y(0), y(1), y(2))
    m.op('addps', sum, sum, y(0))
    m.storeVector('movups', at(rax), y(0))
    m.arithmetic('add', rax, 32)
    m.arithmetic('compare', rax, r15)
    m.jumpIf('below', more)
    emitSum(m, sum, y(0))
    m.unary('movups', y(0), c.float(1))
    m.scalar('divss', y(0), y(0), sum)
    m.storeFloat({ base: rbx, index: r12, scale: 4 }, y(0))
  })
}

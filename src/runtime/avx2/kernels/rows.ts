// Kernels that go through rows one by one: to words, layer norm, and rows fetched by their number.
import { at, r8, r9, r10, r11, r12, r13, r15, rax, rbp, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { type Constants, emitLargest, emitSum } from './constants.ts'
import { rowSteps } from './packing.ts'

/** Every kernel of rows has these slots first. A row's numbers are a multiple of 8. */
export const rowSlots = ['count', 'chunkRows', 'width', 'from', 'fromStride', 'to', 'toStride'] as const
export const wordsSlots = [...rowSlots, 'scales'] as const
export const layerNormSlots = [...rowSlots, 'scale', 'shift', 'epsilon', 'ofWidth'] as const
export const gatherSlots = [...rowSlots, 'numbers'] as const

export const slot = (slots: readonly string[], name: string): ReturnType<typeof at> => at(rbp, 8 * slots.indexOf(name))

/** rsi: from, rdi: to, where the kernel has that, rcx: 8 numbers at a time, r13: which row; runs `body` for each row of the chunk. */
export function emitRows(m: VectorAssembler, slots: readonly string[], body: () => void): void {
  m.move(rbp, rdi)
  m.move(r13, rsi)
  m.multiplyAt(r13, slot(slots, 'chunkRows'))
  m.move(r12, r13)
  m.addAt(r12, slot(slots, 'chunkRows'))
  m.load(rax, slot(slots, 'count'))
  m.atMost(r12, rax)
  const row = m.here()
  m.move(rsi, r13)
  m.multiplyAt(rsi, slot(slots, 'fromStride'))
  m.addAt(rsi, slot(slots, 'from'))
  if (slots.includes('to')) {
    m.move(rdi, r13)
    m.multiplyAt(rdi, slot(slots, 'toStride'))
    m.addAt(rdi, slot(slots, 'to'))
  }
  m.load(rcx, slot(slots, 'width'))
  m.shiftRight(rcx, 3)
  body()
  m.arithmetic('add', r13, 1)
  m.arithmetic('compare', r13, r12)
  m.jumpIf('below', row)
  m.return()
}

/** Repeats `body` rcx times, with rsi's numbers at rax; of `steps` each on by so many bytes. */
export function emitEach(
  m: VectorAssembler,
  steps: readonly (readonly [Parameters<typeof at>[0], number])[],
  body: () => void,
): void {
  m.move(rax, rsi)
  m.move(rdx, rcx)
  const more = m.here()
  body()
  m.arithmetic('add', rax, 32)
  for (const [register, bytes] of steps) m.arithmetic('add', register, bytes)
  m.arithmetic('subtract', rdx, 1)
  m.jumpIf('notEqual', more)
}

/**
 * A row in whole steps of its largest magnitude / `rowSteps`, and how large one step is: NaN where any of its numbers is not finite,
 * which then goes through the product.
 */
export function emitWords(m: VectorAssembler, c: Constants): void {
  emitRows(m, wordsSlots, () => {
    // y3 stays 0 for finite numbers.
    for (const each of [y(0), y(3), y(4)]) m.op('pxor', each, each, each)
    emitEach(m, [], () => {
      m.unary('movups', y(1), at(rax))
      m.op('fmadd231ps', y(3), y(1), y(4))
      m.op('andps', y(1), y(1), c.bits(0x7fffffff))
      m.op('maxps', y(0), y(0), y(1))
    })
    emitLargest(m, y(0), y(1))
    emitSum(m, y(3), y(1))
    m.scalar('maxss', y(0), y(0), c.float(1e-30))
    m.scalar('mulss', y(1), y(0), c.float(1 / rowSteps))
    m.scalar('addss', y(1), y(1), y(3))
    m.load(r8, slot(wordsSlots, 'scales'))
    m.storeFloat({ base: r8, index: r13, scale: 4 }, y(1))
    m.unary('movups', y(2), c.float(rowSteps))
    m.scalar('divss', y(2), y(2), y(0))
    m.unary('broadcastss', y(2), y(2))
    const [half, done] = [m.label(), m.label()]
    m.move(rax, rsi)
    m.move(r9, rdi)
    m.move(r10, rcx)
    m.arithmetic('and', r10, 1)
    m.shiftRight(rcx, 1)
    m.arithmetic('compare', rcx, 0)
    m.jumpIf('equal', half)
    emitEach(
      m,
      [
        [rax, 32],
        [r9, 32],
      ],
      () => {
        m.op('mulps', y(0), y(2), at(rax))
        m.op('mulps', y(1), y(2), at(rax, 32))
        m.unary('cvtps2dq', y(0), y(0))
        m.unary('cvtps2dq', y(1), y(1))
        m.op('packssdw', y(0), y(0), y(1))
        m.permute64(y(0), y(0), [0, 2, 1, 3])
        m.storeVector('movups', at(r9), y(0))
      },
    )
    m.place(half)
    m.arithmetic('compare', r10, 0)
    m.jumpIf('equal', done)
    m.op('mulps', y(0), y(2), at(rax))
    m.unary('cvtps2dq', y(0), y(0))
    m.op('packssdw', y(0), y(0), y(0))
    m.permute64(y(0), y(0), [0, 2, 1, 3])
    m.storeHalf(at(r9), y(0))
    m.place(done)
  })
}

/** (x − mean) / √(variance + ε) · scale + shift (Ba et al. 2016). */
export function emitLayerNorm(m: VectorAssembler): void {
  const average = (): void => {
    emitSum(m, y(0), y(1))
    m.scalar('mulss', y(0), y(0), slot(layerNormSlots, 'ofWidth'))
  }
  emitRows(m, layerNormSlots, () => {
    m.op('pxor', y(0), y(0), y(0))
    emitEach(m, [], () => m.op('addps', y(0), y(0), at(rax)))
    average()
    m.unary('broadcastss', y(3), y(0))
    m.op('pxor', y(0), y(0), y(0))
    emitEach(m, [], () => {
      m.unary('movups', y(1), at(rax))
      m.op('subps', y(1), y(1), y(3))
      m.op('fmadd231ps', y(0), y(1), y(1))
    })
    average()
    m.scalar('addss', y(0), y(0), slot(layerNormSlots, 'epsilon'))
    m.scalar('sqrtss', y(0), y(0), y(0))
    m.unary('broadcastss', y(2), y(0))
    m.load(r8, slot(layerNormSlots, 'scale'))
    m.load(r9, slot(layerNormSlots, 'shift'))
    m.move(r10, rdi)
    emitEach(
      m,
      [
        [r8, 32],
        [r9, 32],
        [r10, 32],
      ],
      () => {
        m.unary('movups', y(1), at(rax))
        m.op('subps', y(1), y(1), y(3))
        m.op('divps', y(1), y(1), y(2))
        m.unary('movups', y(4), at(r8))
        m.op('fmadd213ps', y(1), y(4), at(r9))
        m.storeVector('movups', at(r10), y(1))
      },
    )
  })
}

/** Rows of a table at int32 numbers. */
export function emitGather(m: VectorAssembler): void {
  emitRows(m, gatherSlots, () => {
    m.load(r8, slot(gatherSlots, 'numbers'))
    m.loadInt(rsi, { base: r8, index: r13, scale: 4 })
    m.multiplyAt(rsi, slot(gatherSlots, 'fromStride'))
    m.addAt(rsi, slot(gatherSlots, 'from'))
    m.move(r9, rdi)
    emitEach(m, [[r9, 32]], () => {
      m.unary('movups', y(0), at(rax))
      m.storeVector('movups', at(r9), y(0))
    })
  })
}

export const copySlots = [
  'from',
  'to',
  'middle',
  'inner',
  'width',
  'fromOuter',
  'fromMiddle',
  'fromInner',
  'toOuter',
  'toMiddle',
  'toInner',
] as const

/** Pieces of `width` numbers, a multiple of 8, numbered outer, middle, inner; strides are in bytes, and a chunk is one of the outer. */
export function emitCopy(m: VectorAssembler): void {
  const of = (name: (typeof copySlots)[number]): ReturnType<typeof at> => slot(copySlots, name)
  m.move(rbp, rdi)
  m.move(r8, rsi)
  m.multiplyAt(r8, of('fromOuter'))
  m.addAt(r8, of('from'))
  m.move(r9, rsi)
  m.multiplyAt(r9, of('toOuter'))
  m.addAt(r9, of('to'))
  m.load(r12, of('middle'))
  const middle = m.here()
  m.move(rsi, r8)
  m.move(r11, r9)
  m.load(r13, of('inner'))
  const inner = m.here()
  m.move(r15, r11)
  m.load(rcx, of('width'))
  m.shiftRight(rcx, 3)
  emitEach(m, [[r15, 32]], () => {
    m.unary('movups', y(0), at(rax))
    m.storeVector('movups', at(r15), y(0))
  })
  m.addAt(rsi, of('fromInner'))
  m.addAt(r11, of('toInner'))
  m.arithmetic('subtract', r13, 1)
  m.jumpIf('notEqual', inner)
  m.addAt(r8, of('fromMiddle'))
  m.addAt(r9, of('toMiddle'))
  m.arithmetic('subtract', r12, 1)
  m.jumpIf('notEqual', middle)
  m.return()
}

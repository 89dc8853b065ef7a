// Cross-entropy of rows of logits with their labels, and its gradient; rows are of any width.
import { at, r8, r9, r10, r11, r13, rax, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import { type Constants, emitExp, emitLargest, emitLog, emitSum } from './constants.ts'
import { emitRows, rowSlots, slot } from './rows.ts'

/** Labels are int32 [count], all others float32 [count]. */
export const crossEntropySlots = [
  'count',
  'chunkRows',
  'width',
  'from',
  'fromStride',
  'labels',
  'losses',
  'logSums',
  'smoothing',
  'ofWidth',
] as const
export const crossEntropyGradSlots = [...rowSlots, 'labels', 'logSums', 'cts', 'smoothing', 'ofWidth'] as const

/** Vectors whose sum is one term of the sum of all: of tens of thousands in one line each would round it. */
const vectorsTogether = 64
const tail = y(15)

/** `tail` masks what is behind a row's whole vectors, of which there are rcx; r11: how many bytes that is. */
function emitTail(m: VectorAssembler, c: Constants, width: ReturnType<typeof at>): void {
  m.load(r11, width)
  m.arithmetic('and', r11, 7)
  m.shiftLeft(r11, 2)
  m.fromRegister(tail, r11)
  m.unary('pbroadcastd', tail, tail)
  m.op('pcmpgtd', tail, tail, c.laneBytes())
}

/**
 * Runs `body` for all vectors of a row, the first of which is at rax, and behind it for the tail, with its mask; `together` after some,
 * and at the end. Overwrites rdx and r10.
 */
function emitVectors(
  m: VectorAssembler,
  body: (mask: Vector | null) => void,
  step: (bytes: number) => void,
  together: () => void = () => undefined,
): void {
  const [block, more, rest, done] = [m.label(), m.label(), m.label(), m.label()]
  m.move(r10, rcx)
  m.place(block)
  m.arithmetic('compare', r10, 0)
  m.jumpIf('equal', rest)
  m.move(rdx, r10)
  m.atMost(rdx, vectorsTogether)
  m.arithmetic('subtract', r10, rdx)
  m.place(more)
  body(null)
  step(32)
  m.arithmetic('subtract', rdx, 1)
  m.jumpIf('notEqual', more)
  together()
  m.jump(block)
  m.place(rest)
  m.arithmetic('compare', r11, 0)
  m.jumpIf('equal', done)
  body(tail)
  together()
  m.place(done)
}

const load = (m: VectorAssembler, to: Vector, mask: Vector | null): void =>
  mask === null ? m.unary('movups', to, at(rax)) : m.loadMasked(to, mask, at(rax))

/**
 * logSum = log Σ exp(l), and the loss logSum − (1 − ε)·l[label] − ε·mean l, ε = `smoothing` (Szegedy et al. 2016, section 7). All are
 * taken from the largest logit: of what may be far from 0 the difference would not be a loss of seven digits.
 */
export function emitCrossEntropy(m: VectorAssembler, c: Constants): void {
  const of = (name: (typeof crossEntropySlots)[number]): ReturnType<typeof at> => slot(crossEntropySlots, name)
  const [largest, exponentials, differences, blockExponentials, blockDifferences] = [y(9), y(10), y(11), y(12), y(13)]
  const next = (bytes: number): void => m.arithmetic('add', rax, bytes)
  const ofRow = (name: 'labels' | 'losses' | 'logSums') => {
    m.load(r8, of(name))
    return { base: r8, index: r13, scale: 4 } as const
  }
  emitRows(m, crossEntropySlots, () => {
    emitTail(m, c, of('width'))
    m.unary('movups', largest, c.float(-Infinity))
    m.move(rax, rsi)
    emitVectors(
      m,
      (mask) => {
        load(m, y(0), mask)
        if (mask !== null) {
          m.op('andnps', y(1), mask, c.float(-Infinity))
          m.op('orps', y(0), y(0), y(1))
        }
        m.op('maxps', largest, largest, y(0))
      },
      next,
    )
    emitLargest(m, largest, y(0))
    m.unary('broadcastss', largest, largest)
    for (const sum of [exponentials, differences, blockExponentials, blockDifferences]) m.op('pxor', sum, sum, sum)
    m.move(rax, rsi)
    emitVectors(
      m,
      (mask) => {
        load(m, y(0), mask)
        m.op('subps', y(0), y(0), largest)
        if (mask !== null) m.op('andps', y(0), y(0), mask)
        m.op('addps', blockDifferences, blockDifferences, y(0))
        emitExp(m, c, y(0), y(1), y(2))
        if (mask !== null) m.op('andps', y(0), y(0), mask)
        m.op('addps', blockExponentials, blockExponentials, y(0))
      },
      next,
      () => {
        for (const [sum, block] of [
          [exponentials, blockExponentials],
          [differences, blockDifferences],
        ] as const) {
          m.op('addps', sum, sum, block)
          m.op('pxor', block, block, block)
        }
      },
    )
    const [log, difference] = [exponentials, y(4)]
    emitSum(m, exponentials, y(0))
    emitSum(m, differences, y(0))
    emitLog(m, c, log, [y(0), y(1), y(2)])
    m.scalar('addss', y(0), log, largest)
    m.storeFloat(ofRow('logSums'), y(0))

    m.loadInt(rax, ofRow('labels'))
    m.loadFloat(difference, { base: rsi, index: rax, scale: 4 })
    m.scalar('subss', difference, difference, largest)
    m.loadFloat(y(1), of('smoothing'))
    m.unary('movups', y(0), c.float(1))
    m.scalar('subss', y(0), y(0), y(1))
    m.scalar('mulss', difference, difference, y(0))
    m.scalar('mulss', y(1), y(1), of('ofWidth'))
    m.scalar('mulss', y(1), y(1), differences)
    m.scalar('subss', log, log, difference)
    m.scalar('subss', log, log, y(1))
    m.storeFloat(ofRow('losses'), log)
  })
}

/** ct·(exp(l − logSum) − (1 − ε)·[it is the label] − ε/width); nothing behind a row's last number is written. `to` may be `from`. */
export function emitCrossEntropyGrad(m: VectorAssembler, c: Constants): void {
  const of = (name: (typeof crossEntropyGradSlots)[number]): ReturnType<typeof at> => slot(crossEntropyGradSlots, name)
  const [logSum, ct, spread] = [y(9), y(10), y(11)]
  const ofRow = (name: 'labels' | 'logSums' | 'cts') => {
    m.load(r8, of(name))
    return { base: r8, index: r13, scale: 4 } as const
  }
  emitRows(m, crossEntropyGradSlots, () => {
    emitTail(m, c, of('width'))
    m.unary('broadcastss', logSum, ofRow('logSums'))
    m.unary('broadcastss', ct, ofRow('cts'))
    m.loadFloat(spread, of('smoothing'))
    m.scalar('mulss', spread, spread, of('ofWidth'))
    m.unary('broadcastss', spread, spread)
    m.move(rax, rsi)
    m.move(r9, rdi)
    emitVectors(
      m,
      (mask) => {
        load(m, y(0), mask)
        m.op('subps', y(0), y(0), logSum)
        emitExp(m, c, y(0), y(1), y(2))
        m.op('subps', y(0), y(0), spread)
        m.op('mulps', y(0), y(0), ct)
        if (mask === null) m.storeVector('movups', at(r9), y(0))
        else m.storeMasked(at(r9), mask, y(0))
      },
      (bytes) => {
        for (const register of [rax, r9]) m.arithmetic('add', register, bytes)
      },
    )
    m.loadInt(rax, ofRow('labels'))
    const label = { base: rdi, index: rax, scale: 4 } as const
    m.loadFloat(y(1), of('smoothing'))
    m.unary('movups', y(0), c.float(1))
    m.scalar('subss', y(0), y(0), y(1))
    m.scalar('mulss', y(0), y(0), ct)
    m.loadFloat(y(1), label)
    m.scalar('subss', y(1), y(1), y(0))
    m.storeFloat(label, y(1))
  })
}

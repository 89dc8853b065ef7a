// Gradients that go through rows: of layer norm, of softmax, and of rows fetched by their number.
import { at, r8, r9, r10, r11, r12, r13, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi } from '../assembler.ts'
import { type VectorAssembler, y } from '../vectors.ts'
import { emitRest, emitSum } from './constants.ts'
import { emitEach, emitRows, rowSlots, slot } from './rows.ts'

/** `from` has what layer norm was of. */
export const layerNormGradSlots = [...rowSlots, 'ct', 'ctStride', 'scale', 'epsilon', 'ofWidth'] as const
/** `from` has probabilities, `with` what comes back to them. */
export const softmaxGradSlots = [...rowSlots, 'with', 'withStride', 'scale'] as const

/** (g − mean g − x̂·mean(g·x̂)) / σ with g = ct·scale and x̂ = (x − mean x) / σ. */
export function emitLayerNormGrad(m: VectorAssembler): void {
  const [mean, gMean, squares, product] = [y(3), y(4), y(5), y(6)]
  emitRows(m, layerNormGradSlots, () => {
    const of = (name: (typeof layerNormGradSlots)[number]): ReturnType<typeof at> => slot(layerNormGradSlots, name)
    m.move(r15, r13)
    m.multiplyAt(r15, of('ctStride'))
    m.addAt(r15, of('ct'))
    const fromFirst = (): void => {
      m.move(r8, r15)
      m.load(r9, of('scale'))
    }
    m.op('pxor', mean, mean, mean)
    m.op('pxor', gMean, gMean, gMean)
    fromFirst()
    emitEach(
      m,
      [
        [r8, 32],
        [r9, 32],
      ],
      () => {
        m.op('addps', mean, mean, at(rax))
        m.unary('movups', y(0), at(r8))
        m.op('fmadd231ps', gMean, y(0), at(r9))
      },
    )
    for (const sum of [mean, gMean]) {
      emitSum(m, sum, y(0))
      m.scalar('mulss', sum, sum, of('ofWidth'))
      m.unary('broadcastss', sum, sum)
    }
    // Of what is left of both without their means: then neither sum loses digits to what cancels.
    m.op('pxor', squares, squares, squares)
    m.op('pxor', product, product, product)
    fromFirst()
    const apart = (): void => {
      m.unary('movups', y(1), at(rax))
      m.op('subps', y(1), y(1), mean)
      m.unary('movups', y(0), at(r8))
      m.op('mulps', y(0), y(0), at(r9))
      m.op('subps', y(0), y(0), gMean)
    }
    emitEach(
      m,
      [
        [r8, 32],
        [r9, 32],
      ],
      () => {
        apart()
        m.op('fmadd231ps', squares, y(1), y(1))
        m.op('fmadd231ps', product, y(0), y(1))
      },
    )
    emitSum(m, squares, y(0))
    emitSum(m, product, y(0))
    for (const sum of [squares, product]) m.scalar('mulss', sum, sum, of('ofWidth'))
    m.scalar('addss', squares, squares, of('epsilon'))
    m.scalar('divss', product, product, squares)
    m.scalar('sqrtss', squares, squares, squares)
    const sigma = squares
    m.unary('broadcastss', product, product)
    m.unary('broadcastss', sigma, sigma)
    fromFirst()
    m.move(r10, rdi)
    emitEach(
      m,
      [
        [r8, 32],
        [r9, 32],
        [r10, 32],
      ],
      () => {
        apart()
        m.op('fnmadd231ps', y(0), y(1), product)
        m.op('divps', y(0), y(0), sigma)
        m.storeVector('movups', at(r10), y(0))
      },
    )
  })
}

/** scale·P·(dP − Σ P·dP); `to` may be `with` or `from`. */
export function emitSoftmaxGrad(m: VectorAssembler): void {
  const [sum, scale] = [y(3), y(4)]
  const of = (name: (typeof softmaxGradSlots)[number]): ReturnType<typeof at> => slot(softmaxGradSlots, name)
  emitRows(m, softmaxGradSlots, () => {
    m.move(r15, r13)
    m.multiplyAt(r15, of('withStride'))
    m.addAt(r15, of('with'))
    m.op('pxor', sum, sum, sum)
    m.move(r8, r15)
    emitEach(m, [[r8, 32]], () => {
      m.unary('movups', y(0), at(rax))
      m.op('fmadd231ps', sum, y(0), at(r8))
    })
    emitSum(m, sum, y(0))
    m.unary('broadcastss', sum, sum)
    m.unary('broadcastss', scale, of('scale'))
    m.move(r8, r15)
    m.move(r9, rdi)
    emitEach(
      m,
      [
        [r8, 32],
        [r9, 32],
      ],
      () => {
        m.unary('movups', y(0), at(r8))
        m.op('subps', y(0), y(0), sum)
        m.op('mulps', y(1), scale, at(rax))
        m.op('mulps', y(0), y(0), y(1))
        m.storeVector('movups', at(r9), y(0))
      },
    )
  })
}

/** Strides are in bytes; `width` and `chunkColumns` are multiples of 8. */
export const scatterAddSlots = [
  'count', // rows that are added
  'rows', // of the result
  'width',
  'chunkColumns',
  'from',
  'fromStride',
  'to',
  'toStride',
  'numbers', // int32 [count]: rows of the result
] as const

/** Rows added into zeros at int32 numbers, which may repeat: so a chunk has some columns of all rows, and adds in their order. */
export function emitScatterAdd(m: VectorAssembler): void {
  const of = (name: (typeof scatterAddSlots)[number]): ReturnType<typeof at> => slot(scatterAddSlots, name)
  const [number, left, bytes] = [r11, r12, rbx]
  const eachRow = (count: 'count' | 'rows', body: () => void): void => {
    const [row, done] = [m.label(), m.label()]
    m.load(left, of(count))
    m.arithmetic('compare', left, 0)
    m.jumpIf('equal', done)
    m.place(row)
    body()
    m.arithmetic('subtract', left, 1)
    m.jumpIf('notEqual', row)
    m.place(done)
  }
  m.move(rbp, rdi)
  m.move(bytes, rsi)
  m.multiplyAt(bytes, of('chunkColumns'))
  emitRest(m, { left: rcx, free: rdx, from: bytes, all: of('width'), most: of('chunkColumns') })
  m.shiftRight(rcx, 3)
  m.shiftLeft(bytes, 2)
  m.load(rdi, of('to'))
  m.arithmetic('add', rdi, bytes)
  m.load(r15, of('from'))
  m.arithmetic('add', r15, bytes)
  m.op('pxor', y(0), y(0), y(0))
  m.move(rsi, rdi)
  eachRow('rows', () => {
    emitEach(m, [], () => m.storeVector('movups', at(rax), y(0)))
    m.addAt(rsi, of('toStride'))
  })
  m.load(number, of('numbers'))
  eachRow('count', () => {
    m.loadInt(rsi, at(number))
    m.multiplyAt(rsi, of('toStride'))
    m.arithmetic('add', rsi, rdi)
    m.move(r8, r15)
    emitEach(m, [[r8, 32]], () => {
      m.unary('movups', y(0), at(r8))
      m.op('addps', y(0), y(0), at(rax))
      m.storeVector('movups', at(rax), y(0))
    })
    m.addAt(r15, of('fromStride'))
    m.arithmetic('add', number, 4)
  })
  m.return()
}

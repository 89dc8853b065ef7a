// Softmax of the scores of attention, each row over the positions that its query sees.
import { at, r8, r9, r10, r11, r13, r15, rax, rbx, rcx, rdi, rdx, rsi, type Register } from '../assembler.ts'
import { type Vector, type VectorAssembler, y } from '../vectors.ts'
import { type Constants, emitExp, emitLargest, emitSum } from './constants.ts'
import { emitRows, rowSlots, slot } from './rows.ts'

/** Rows are [head, batch row, query]; steps are in bytes. */
export const softmaxSlots = [
  ...rowSlots,
  'scale', // float32, not below 0
  'past', // positions of the past, which new keys follow
  'queries', // of a batch row
  'rowsOfHead', // batch rows · queries
  'pastLengths', // int32, from 0 to `past`
  'pastLengthBatchStep', // from batch row to batch row; 0: all have the same
  'pastLengthQueryStep', // from query to query; 0: all have the same
  'keyLengths', // int32, not below 0, of which more than `keys` are as many; 0: causal
  'keyLengthStep', // from batch row to batch row; 0: all have the same
  'keys', // how many new ones there are
] as const

/**
 * softmax(scale · x) over the numbers that are seen: those before the past's length, and from `past` on as many as the length of the
 * keys says, or up to the query's own. All others become 0, whatever they are; a row that sees none is 0. `to` may be `from`.
 */
export function emitSoftmax(m: VectorAssembler, c: Constants): void {
  const [largest, scale, sum, zeros, seen, lane] = [y(9), y(8), y(10), y(7), y(3), y(11)]
  const [pastEnd, keysBegin, keysEnd] = [y(12), y(13), y(14)]
  // Bounds in bytes, as is rax; up to each the vectors are seen as a whole, at an edge, not at all, at an edge, as a whole, and at an edge.
  const [pastWhole, pastEdge, keysEdge, keysWhole, keysWholeEnd, end] = [r8, r9, r10, r11, r15, rbx]
  const from = { base: rsi, index: rax }
  const to = { base: rdi, index: rax }

  /** Repeats `body` for vectors from rax up to `limit`. */
  const upTo = (limit: Register, body: () => void): void => {
    const [more, done] = [m.label(), m.label()]
    m.place(more)
    m.arithmetic('compare', rax, limit)
    m.jumpIf('greaterOrEqual', done)
    body()
    m.arithmetic('add', rax, 32)
    m.jump(more)
    m.place(done)
  }
  /** `body` for all vectors of which something is seen; at an edge `seen` is a mask, otherwise it is not there. */
  const eachSeen = (body: (seen: Vector | null) => void): void => {
    const edge = (): void => {
      emitSeen(m, { seen, lane, pastEnd, keysBegin, keysEnd })
      body(seen)
    }
    m.move(rax, 0)
    upTo(pastWhole, () => body(null))
    upTo(pastEdge, edge)
    m.move(rax, keysEdge)
    upTo(keysWhole, edge)
    upTo(keysWholeEnd, () => body(null))
    upTo(end, edge)
  }

  emitRows(m, softmaxSlots, () => {
    const [all, empty] = [rcx, m.label()]
    m.shiftLeft(all, 5)
    m.op('pxor', zeros, zeros, zeros)
    emitBounds(m, { pastEnd, keysBegin, keysEnd }, empty)
    m.unary('movups', lane, c.laneBytes())
    m.unary('broadcastss', scale, softmaxSlot('scale'))
    m.unary('movups', largest, c.float(-Infinity))
    eachSeen((mask) => {
      m.unary('movups', y(0), from)
      if (mask !== null) {
        m.op('andps', y(0), y(0), mask)
        m.op('andnps', y(1), mask, c.float(-Infinity))
        m.op('orps', y(0), y(0), y(1))
      }
      m.op('maxps', largest, largest, y(0))
    })
    emitLargest(m, largest, y(0))
    m.unary('broadcastss', largest, largest)
    m.op('pxor', sum, sum, sum)
    eachSeen((mask) => {
      m.unary('movups', y(0), from)
      m.op('subps', y(0), y(0), largest)
      m.op('mulps', y(0), y(0), scale)
      emitExp(m, c, y(0), y(1), y(2))
      if (mask !== null) m.op('andps', y(0), y(0), mask)
      m.op('addps', sum, sum, y(0))
      m.storeVector('movups', to, y(0))
    })
    emitSum(m, sum, y(0))
    m.unary('movups', y(0), c.float(1))
    m.scalar('divss', sum, y(0), sum)
    m.unary('broadcastss', sum, sum)
    const weighted = (): void => {
      m.op('mulps', y(0), sum, to)
      m.storeVector('movups', to, y(0))
    }
    m.move(rax, 0)
    upTo(pastEdge, weighted)
    m.move(rax, keysEdge)
    upTo(end, weighted)

    const nothing = (): void => m.storeVector('movups', to, zeros)
    m.move(rax, pastEdge)
    upTo(keysEdge, nothing)
    m.place(empty)
    m.move(rax, end)
    upTo(all, nothing)
  })
}

const softmaxSlot = (name: (typeof softmaxSlots)[number]): ReturnType<typeof at> => slot(softmaxSlots, name)

/**
 * What the row of number r13 sees: the numbers before `pastEnd`, and those from `keysBegin` on before `keysEnd`, in bytes, in every lane;
 * and in registers where vectors are seen as a whole. Goes to `empty` where nothing is, with 0 in the last of them.
 */
function emitBounds(
  m: VectorAssembler,
  { pastEnd, keysBegin, keysEnd }: Readonly<Record<'pastEnd' | 'keysBegin' | 'keysEnd', Vector>>,
  empty: ReturnType<VectorAssembler['label']>,
): void {
  const [query, row, seenPast, seenKeys] = [rdx, rax, r8, r15]
  m.move(rax, r13)
  for (const by of ['rowsOfHead', 'queries'] as const) {
    m.load(rbx, softmaxSlot(by))
    m.arithmetic('and', rdx, 0)
    m.divide(rbx)
    // Of a head's rows the rest is wanted, and of that both.
    if (by === 'rowsOfHead') m.move(rax, rdx)
  }
  const [causal, known] = [m.label(), m.label()]
  m.load(r9, softmaxSlot('keyLengths'))
  m.arithmetic('compare', r9, 0)
  m.jumpIf('equal', causal)
  m.move(r10, row)
  m.multiplyAt(r10, softmaxSlot('keyLengthStep'))
  m.loadInt(seenKeys, { base: r9, index: r10 })
  m.jump(known)
  m.place(causal)
  m.addressOf(seenKeys, at(query, 1))
  m.place(known)
  m.load(r9, softmaxSlot('keys'))
  m.atMost(seenKeys, r9)

  m.multiplyAt(row, softmaxSlot('pastLengthBatchStep'))
  m.multiplyAt(query, softmaxSlot('pastLengthQueryStep'))
  m.load(r9, softmaxSlot('pastLengths'))
  m.arithmetic('add', r9, row)
  m.loadInt(seenPast, { base: r9, index: query })
  const past = r10
  m.load(past, softmaxSlot('past'))

  m.move(rbx, 0)
  m.addressOf(rax, { base: seenPast, index: seenKeys })
  m.arithmetic('compare', rax, 0)
  m.jumpIf('equal', empty)

  m.arithmetic('add', seenKeys, past)
  for (const [lanes, bytes] of [
    [pastEnd, seenPast],
    [keysBegin, past],
    [keysEnd, seenKeys],
  ] as const) {
    m.shiftLeft(bytes, 2)
    m.fromRegister(lanes, bytes)
    m.unary('pbroadcastd', lanes, lanes)
  }
  const down = (register: Register): void => m.arithmetic('and', register, -32)
  const up = (to: Register, of: Register): void => {
    m.addressOf(to, at(of, 31))
    down(to)
  }
  const [pastWhole, pastEdge, keysEdge, keysWhole, keysWholeEnd, end] = [r8, r9, r10, r11, r15, rbx]
  up(pastEdge, seenPast)
  up(keysWhole, past)
  up(end, seenKeys)
  for (const each of [pastWhole, keysEdge, keysWholeEnd]) down(each)
  // An edge may be both of the past and of the keys.
  const apart = m.label()
  m.arithmetic('compare', keysEdge, pastEdge)
  m.jumpIf('greaterOrEqual', apart)
  m.move(keysEdge, pastEdge)
  m.place(apart)
}

/** All bits of `seen` where the vector at rax bytes of its row is seen. Overwrites y4 to y6. */
function emitSeen(
  m: VectorAssembler,
  {
    seen,
    lane,
    pastEnd,
    keysBegin,
    keysEnd,
  }: Readonly<Record<'seen' | 'lane' | 'pastEnd' | 'keysBegin' | 'keysEnd', Vector>>,
): void {
  const [place, before, past] = [y(4), y(5), y(6)]
  m.fromRegister(place, rax)
  m.unary('pbroadcastd', place, place)
  m.op('paddd', place, place, lane)
  m.op('pcmpgtd', past, pastEnd, place)
  m.op('pcmpgtd', before, keysBegin, place)
  m.op('pcmpgtd', seen, keysEnd, place)
  m.op('andnps', seen, before, seen)
  m.op('orps', seen, seen, past)
}

// The ONNX models that move keys and values about in a cache on the device: what is new into it, from row to row, out of it.
import { ModelBuilder } from './model-builder.ts'

/** Of one layer: keys [rows, heads, headDim, positions], values [rows, heads, positions, headDim]. */
export interface CacheShape {
  readonly layers: number
  readonly heads: number
  readonly headDim: number
}

/** Keys are the even ones of these, values the odd ones: one pair for each layer. */
export const cacheInput = (i: number): string => `cache.${i}`
export const cacheOutput = (i: number): string => `cache.${i}.after`
export const madeInput = (i: number): string => `made.${i}`

/**
 * Writes positions into a cache, given as one vector and changed in place. Inputs: int32 row and position [N, 1], where each of N
 * goes; int32 capacity [1, 1], positions of a row; and what goes there, keys and values of each layer alike: made.i [N, heads·headDim],
 * or, `stacked`, made [2·layers, N, heads·headDim].
 */
export function appendModel(shape: CacheShape, stacked: boolean): Uint8Array {
  const m = new ModelBuilder()
  const width = shape.heads * shape.headDim
  const to = places(m, shape, 'row', 'position')
  if (stacked) m.input('made', 'float32', [2 * shape.layers, 'N', width])
  for (let i = 0; i < 2 * shape.layers; i++) {
    const made = stacked
      ? m.emit('Slice', ['made', m.integers([i]), m.integers([i + 1]), m.integers([0])])
      : m.input(madeInput(i), 'float32', ['N', width])
    write(m, i, to, m.emit('Reshape', [made, m.integers([-1])]))
  }
  return m.encode()
}

/** Copies positions within a cache, in place: all are read before any is written. Inputs as above, and int32 fromRow and fromPosition [N, 1]. */
export function copyModel(shape: CacheShape): Uint8Array {
  const m = new ModelBuilder()
  const to = places(m, shape, 'row', 'position')
  const from = places(m, shape, 'fromRow', 'fromPosition')
  const [keys, values] = [from.keys, from.values].map((at) => m.emit('Reshape', [at, m.integers([-1])])) as [
    string,
    string,
  ]
  for (let i = 0; i < 2 * shape.layers; i++) {
    const at = i % 2 === 0 ? keys : values
    m.input(cacheInput(i), 'float32', ['S'])
    write(m, i, to, m.emit('Gather', [cacheInput(i), at], { axis: 0 }))
  }
  return m.encode()
}

/** Takes some rows of a cache, and their first positions. Inputs: the cache in its shape; int64 start, end and positions [1]. */
export function sliceModel({ layers, heads, headDim }: CacheShape): Uint8Array {
  const m = new ModelBuilder()
  const [start, end, positions] = ['start', 'end', 'positions'].map((name) => m.input(name, 'int64', [1])) as [
    string,
    string,
    string,
  ]
  const first = m.emit('Concat', [start, m.integers([0])], { axis: 0 })
  const last = m.emit('Concat', [end, positions], { axis: 0 })
  for (let i = 0; i < 2 * layers; i++) {
    const axis = i % 2 === 0 ? 3 : 2
    const cache = m.input(cacheInput(i), 'float32', cacheDims(i, heads, headDim))
    const taken = m.emit('Slice', [cache, first, last, m.integers([0, axis])])
    m.output(cacheOutput(i), taken, ['B', ...cacheDims(i, heads, headDim, 'P').slice(1)])
  }
  return m.encode()
}

/** One tensor of a cache with room for more positions, ones in it. Inputs: cache.i of `half`; int64 pads [8]. */
export function growModel({ heads, headDim }: CacheShape, half: 0 | 1): Uint8Array {
  const m = new ModelBuilder()
  const cache = m.input(cacheInput(half), 'float32', cacheDims(half, heads, headDim))
  const grown = m.emit('Pad', [cache, m.input('pads', 'int64', [8]), m.float(1)])
  m.output(cacheOutput(half), grown, cacheDims(half, heads, headDim, 'P'))
  return m.encode()
}

function cacheDims(i: number, heads: number, headDim: number, positions = 'M'): (string | number)[] {
  return i % 2 === 0 ? ['R', heads, headDim, positions] : ['R', heads, positions, headDim]
}

/** Where numbers of a position lie in the vector of a cache. */
interface Places {
  /** int32 [N, heads·headDim] */
  readonly keys: string
  readonly values: string
}

/** Inputs: int32 `row` and `position` [N, 1], and int32 capacity [1, 1]. */
function places(m: ModelBuilder, { heads, headDim }: CacheShape, row: string, position: string): Places {
  const width = heads * headDim
  const numbers = Array.from({ length: width }, (_, w) => w)
  const [rows, positions] = [row, position].map((name) => m.input(name, 'int32', ['N', 1])) as [string, string]
  if (!m.has('capacity')) m.input('capacity', 'int32', [1, 1])
  const rowStart = m.emit('Mul', [rows, m.emit('Mul', ['capacity', m.row([width])])])
  const ofKeys = m.emit('Mul', ['capacity', m.row(numbers)])
  const ofHeads = m.emit('Mul', ['capacity', m.row(numbers.map((w) => w - (w % headDim)))])
  const ofValues = m.emit('Add', [ofHeads, m.row(numbers.map((w) => w % headDim))])
  const valueStart = m.emit('Add', [rowStart, m.emit('Mul', [positions, m.row([headDim])])])
  return {
    keys: m.emit('Add', [m.emit('Add', [rowStart, positions]), ofKeys]),
    values: m.emit('Add', [valueStart, ofValues]),
  }
}

/** Puts `numbers` [N·heads·headDim] into tensor `i` of the cache. */
function write(m: ModelBuilder, i: number, { keys, values }: Places, numbers: string): void {
  const at = m.shared(`at.${i % 2}`, () =>
    m.cast(m.emit('Reshape', [i % 2 === 0 ? keys : values, m.integers([-1, 1])]), 'int64'),
  )
  if (!m.has(cacheInput(i))) m.input(cacheInput(i), 'float32', ['S'])
  m.outputOf(cacheOutput(i), 'ScatterND', [cacheInput(i), at, numbers], ['S'])
}

// What comes back of a step's logits: tokens, the few largest logits for those that are drawn or searched, and the logits of rows that need all.
import { Tensor as OnnxTensor } from 'onnxruntime-node'
import type { BestTokens, ChosenToken, RowOutcome, RowWanted } from '../runtime.ts'
import { describeAdapter } from './adapters.ts'
import { ints, viewOf, type Device, type DeviceTensor } from './device.ts'
import { bestFrom, concerned, drawFrom, scaleOf } from './draw.ts'
import { ModelBuilder } from './model-builder.ts'

/** So many of the largest logits of a row come back where a token is drawn, or more where that many are asked for. */
const bestCounts = [64, 256] as const
/** The provider sorts so many numbers within one workgroup; more of them pass through memory many times. */
const sortedMax = 2048
/** Below every logit. */
const lowest = -3.4e38

export class Chooser {
  readonly #device: Device
  readonly #vocabulary: number

  constructor(device: Device, vocabulary: number) {
    this.#device = device
    this.#vocabulary = vocabulary
  }

  /** For each row of `logits`, [rows, vocabulary], in order: what is wanted of it where the device can tell, else its logits. */
  async choose(logits: DeviceTensor, wanted: readonly RowWanted[]): Promise<RowOutcome[]> {
    const greedy = wanted.some(isGreedy) ? await this.#greedy(logits) : []
    const others = wanted.map((each) => (isGreedy(each) ? null : each))
    const told = others.some((each) => each !== null) ? await this.#best(logits, others) : []
    const outcomes = wanted.map((each, row) => (isGreedy(each) ? greedy[row] : told[row]) ?? null)
    const rest = wanted.flatMap((_, row) => (outcomes[row] === null ? [row] : []))
    const fetched = rest.length === 0 ? new Float32Array(0) : await this.#fetch(logits, rest)
    const size = this.#vocabulary
    return outcomes.map((outcome, row) => {
      const at = rest.indexOf(row)
      return outcome ?? fetched.subarray(at * size, (at + 1) * size)
    })
  }

  /** The token of the largest logit of each row, of equals the lowest; null where a logit is no number. */
  async #greedy(logits: DeviceTensor): Promise<(ChosenToken | null)[]> {
    const session = await this.#device.kept('greedy', 'host', greedyModel)
    const { best } = await this.#device.run(session, { logits })
    const numbers = (best as DeviceTensor).data as Float32Array
    return Array.from({ length: numbers.length / 2 }, (_, row) => {
      const [token, logprob] = [numbers[2 * row] as number, numbers[2 * row + 1] as number]
      this.#assertComputed(Math.exp(-logprob))
      return Number.isFinite(logprob) ? { token, logprob } : null
    })
  }

  /** null where a row's largest logits and those that are concerned do not tell, or nothing is asked for. */
  async #best(logits: DeviceTensor, wanted: readonly RowWanted[]): Promise<(ChosenToken | BestTokens | null)[]> {
    const rows = wanted.length
    const lists = wanted.map((each) => (each === null ? [] : concerned(each)))
    const named = Math.max(...lists.map(({ length }) => length))
    // Of a search some more than it wants: what rules forbid is often among the best.
    const most = Math.max(...wanted.map((each) => (each !== null && 'best' in each ? 1.5 * each.best : 0)))
    const count = Math.min(bestCounts.find((each) => each >= most) ?? bestCounts[1], this.#vocabulary)
    const isTypical = wanted.some((each) => each !== null && 'typicalP' in each)
    const shape = { vocabulary: this.#vocabulary, count, isNaming: named > 0, isTypical }
    const session = await this.#device.kept(`best ${Object.values(shape)}`, 'host', () => bestModel(shape))
    const scales = Float32Array.from(wanted, (each) => (each === null || 'best' in each ? 1 : scaleOf(each)))
    const naming = new Int32Array(rows * named)
    lists.forEach((list, row) => naming.set(list, row * named))
    const { best } = await this.#device.run(session, {
      logits,
      scales: new OnnxTensor('float32', scales, [rows, 1]),
      ...(named > 0 && { named: ints(naming, [rows, named]) }),
    })
    const numbers = (best as DeviceTensor).data as Float32Array
    const sums = isTypical ? 3 : 2
    const width = sums + 2 * count + named
    return wanted.map((each, row) => {
      if (each === null) return null
      const own = numbers.subarray(row * width, (row + 1) * width)
      this.#assertComputed(own[0] as number)
      const known = {
        sum: own[0] as number,
        sumAtTemperature: own[1] as number,
        momentAtTemperature: isTypical ? (own[2] as number) : NaN,
        logits: own.subarray(sums, sums + count),
        tokens: own.subarray(sums + count, sums + 2 * count),
        concerned: own.subarray(sums + 2 * count),
        isWhole: count === this.#vocabulary,
      }
      return 'best' in each ? bestFrom(known, each) : drawFrom(known, each)
    })
  }

  /** `sum`: Σ e^(l − max l) over a row. No model has all logits alike, and zeros are what the provider leaves where memory was lacking. */
  #assertComputed(sum: number): void {
    if (Math.abs(sum / this.#vocabulary - 1) > 1e-5) return
    const { adapter } = this.#device
    throw new Error(
      `all logits of a row are alike: the GPU ${describeAdapter(adapter)}, has no memory left for a step, it seems (lower ROWS_MAX for less)`,
    )
  }

  async #fetch(logits: DeviceTensor, rows: readonly number[]): Promise<Float32Array> {
    if (rows.length * this.#vocabulary === logits.size) return this.#device.fetch(logits)
    const session = await this.#device.kept('fetch rows', 'host', () => {
      const m = new ModelBuilder()
      const [x, at] = [m.input('x', 'float32', ['R', 'V']), m.input('at', 'int32', ['N'])]
      m.output('y', m.emit('Gather', [x, at], { axis: 0 }), ['N', 'V'])
      return m.encode()
    })
    const x = viewOf(logits, [logits.size / this.#vocabulary, this.#vocabulary])
    const { y } = await this.#device.run(session, { x, at: ints(rows, [rows.length]) })
    return (y as DeviceTensor).data as Float32Array
  }
}

/** logits [R, V] → best [R, 2]: the token, exact below 2²⁴, and log softmax of its logit: −log Σ e^(l − max l). */
function greedyModel(): Uint8Array {
  const m = new ModelBuilder()
  const logits = m.input('logits', 'float32', ['R', 'V'])
  const token = m.cast(m.emit('ArgMax', [logits], { axis: 1, keepdims: 1 }), 'float32')
  const sum = sumOfPowers(m, belowLargest(m, logits))
  m.output('best', m.emit('Concat', [token, m.emit('Neg', [m.emit('Log', [sum])])], { axis: 1 }), ['R', 2])
  return m.encode()
}

interface BestShape {
  readonly vocabulary: number
  /** Of the largest logits. */
  readonly count: number
  /** Whether the logits of some tokens are asked for. */
  readonly isNaming: boolean
  readonly isTypical: boolean
}

/**
 * logits [R, vocabulary], scales [R, 1], where asked for int32 named [R, N] → best [R, 2 + 2·count + N]: Σ e^(l − max l),
 * Σ e^(scale·(l − max l)), the largest logits, their tokens, the logits of the tokens `named`; of a typical choice behind the sums
 * Σ scale·(max l − l)·e^(scale·(l − max l)). Sorted in parts that a workgroup can hold, and then the best of the parts.
 */
function bestModel({ vocabulary, count, isNaming, isTypical }: BestShape): Uint8Array {
  const m = new ModelBuilder()
  const [logits, scales] = [m.input('logits', 'float32', ['R', vocabulary]), m.input('scales', 'float32', ['R', 1])]
  const below = belowLargest(m, logits)
  const scaled = m.emit('Mul', [below, scales])
  const told = [sumOfPowers(m, below), sumOfPowers(m, scaled)]
  if (isTypical) told.push(sum(m, m.emit('Mul', [m.emit('Neg', [scaled]), m.emit('Exp', [scaled])])))
  told.push(...largest(m, logits, vocabulary, count))
  if (isNaming) told.push(m.emit('GatherElements', [logits, m.input('named', 'int32', ['R', 'N'])], { axis: 1 }))
  m.output('best', m.emit('Concat', told, { axis: 1 }), ['R', 'W'])
  return m.encode()
}

/** float32 [R, count] of the largest of each row and of where they stand. */
function largest(m: ModelBuilder, logits: string, vocabulary: number, count: number): readonly [string, string] {
  const parts = Math.ceil(vocabulary / sortedMax)
  const top = (x: string): readonly string[] => m.emitMany('TopK', [x, m.integers([count])], 2, { axis: -1 })
  if (parts === 1) {
    const [values, tokens] = top(logits) as [string, string]
    return [values, m.cast(tokens, 'float32')]
  }
  const padded = m.emit('Pad', [logits, m.integers([0, 0, 0, parts * sortedMax - vocabulary]), m.float(lowest)])
  const [first, within] = top(m.emit('Reshape', [padded, m.integers([-1, parts, sortedMax])])) as [string, string]
  const starts = m.emit('Reshape', [
    m.row(Array.from({ length: parts }, (_, part) => part * sortedMax)),
    m.integers([1, parts, 1]),
  ])
  const flat = (name: string): string => m.emit('Reshape', [name, m.integers([-1, parts * count])])
  const all = flat(m.emit('Add', [m.cast(within, 'int32'), starts]))
  const [second, at] = top(flat(first)) as [string, string]
  return [second, m.cast(m.emit('GatherElements', [all, at], { axis: 1 }), 'float32')]
}

function belowLargest(m: ModelBuilder, logits: string): string {
  return m.emit('Sub', [logits, m.emit('ReduceMax', [logits, m.integers([1])])])
}

function sumOfPowers(m: ModelBuilder, x: string): string {
  return sum(m, m.emit('Exp', [x]))
}

/** Of each row. */
function sum(m: ModelBuilder, x: string): string {
  return m.emit('ReduceSum', [x, m.integers([1])])
}

/** Whether the largest logit tells the token, and nothing else is asked for. */
function isGreedy(wanted: RowWanted): boolean {
  if (wanted === null || 'best' in wanted) return false
  const { temperature, changes, forced, alternatives = 0 } = wanted
  return temperature === 0 && changes === undefined && forced === undefined && alternatives === 0
}

// What comes back of a step's logits: tokens, the few largest logits for those that are drawn, and the logits of rows that need all.
import { Tensor as OnnxTensor } from 'onnxruntime-node'
import type { ChosenToken, RowOutcome, TokenChoice } from '../runtime.ts'
import { ints, viewOf, type Device, type DeviceTensor } from './device.ts'
import { drawFrom, scaleOf } from './draw.ts'
import { ModelBuilder } from './model-builder.ts'

/** Of the largest logits of a row so many come back where a token is drawn. */
const bestMax = 64
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

  /** For each row of `logits`, [rows, vocabulary], in order: a token where there is a choice and the device can tell, else its logits. */
  async choose(logits: DeviceTensor, choices: readonly (TokenChoice | null)[]): Promise<RowOutcome[]> {
    // Where rules change logits, the largest of those that come back tells the greedy token, too.
    const isSimple = (choice: TokenChoice | null): boolean => choice?.temperature === 0 && choice.changes === undefined
    const greedy = choices.some(isSimple) ? await this.#greedy(logits) : []
    const drawn = choices.some((choice) => choice !== null && !isSimple(choice))
      ? await this.#draw(
          logits,
          choices.map((choice) => (isSimple(choice) ? null : choice)),
        )
      : []
    const chosen = choices.map((choice, row) => (isSimple(choice) ? greedy[row] : drawn[row]) ?? null)
    const rest = choices.flatMap((_, row) => (chosen[row] === null ? [row] : []))
    const fetched = rest.length === 0 ? new Float32Array(0) : await this.#fetch(logits, rest)
    const size = this.#vocabulary
    return chosen.map((outcome, row) => {
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
      return Number.isFinite(logprob) ? { token, logprob } : null
    })
  }

  /** null where a row's largest logits and those that rules change do not tell, or nothing is asked for. */
  async #draw(logits: DeviceTensor, choices: readonly (TokenChoice | null)[]): Promise<(ChosenToken | null)[]> {
    const [rows, count] = [choices.length, Math.min(bestMax, this.#vocabulary)]
    const most = Math.max(...choices.map((choice) => choice?.changes?.tokens.length ?? 0))
    const session = await this.#device.kept(`best of ${this.#vocabulary}${most > 0 ? ', changing' : ''}`, 'host', () =>
      bestModel(this.#vocabulary, count, most > 0),
    )
    const scales = Float32Array.from(choices, (choice) => (choice === null ? 1 : scaleOf(choice)))
    const changing = new Int32Array(rows * most)
    choices.forEach((choice, row) => changing.set(choice?.changes?.tokens ?? [], row * most))
    const { best } = await this.#device.run(session, {
      logits,
      scales: new OnnxTensor('float32', scales, [rows, 1]),
      ...(most > 0 && { changing: ints(changing, [rows, most]) }),
    })
    const numbers = (best as DeviceTensor).data as Float32Array
    const width = 2 + 2 * count + most
    return choices.map((choice, row) => {
      if (choice === null) return null
      const own = numbers.subarray(row * width, (row + 1) * width)
      const known = {
        sum: own[0] as number,
        sumAtTemperature: own[1] as number,
        logits: own.subarray(2, 2 + count),
        tokens: own.subarray(2 + count, 2 + 2 * count),
        changing: own.subarray(2 + 2 * count),
        isWhole: count === this.#vocabulary,
      }
      return drawFrom(known, choice)
    })
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

/**
 * logits [R, vocabulary], scales [R, 1], where asked for int32 changing [R, N] → best [R, 2 + 2·count + N]: Σ e^(l − max l),
 * Σ e^(scale·(l − max l)), the largest logits, their tokens, the logits of the tokens `changing`. Sorted in parts that a workgroup can
 * hold, and then the best of the parts.
 */
function bestModel(vocabulary: number, count: number, isChanging: boolean): Uint8Array {
  const m = new ModelBuilder()
  const [logits, scales] = [m.input('logits', 'float32', ['R', vocabulary]), m.input('scales', 'float32', ['R', 1])]
  const below = belowLargest(m, logits)
  const sums = [below, m.emit('Mul', [below, scales])].map((each) => sumOfPowers(m, each))
  const parts = Math.ceil(vocabulary / sortedMax)
  const top = (x: string): readonly string[] => m.emitMany('TopK', [x, m.integers([count])], 2, { axis: -1 })
  let [values, tokens] = top(logits) as [string, string]
  if (parts > 1) {
    const padded = m.emit('Pad', [logits, m.integers([0, 0, 0, parts * sortedMax - vocabulary]), m.float(lowest)])
    const [first, within] = top(m.emit('Reshape', [padded, m.integers([-1, parts, sortedMax])])) as [string, string]
    const starts = m.emit('Reshape', [
      m.row(Array.from({ length: parts }, (_, part) => part * sortedMax)),
      m.integers([1, parts, 1]),
    ])
    const flat = (name: string): string => m.emit('Reshape', [name, m.integers([-1, parts * count])])
    const all = flat(m.emit('Add', [m.cast(within, 'int32'), starts]))
    const [second, at] = top(flat(first)) as [string, string]
    values = second
    tokens = m.emit('GatherElements', [all, at], { axis: 1 })
  }
  const told = [...sums, values, m.cast(tokens, 'float32')]
  if (isChanging) told.push(m.emit('GatherElements', [logits, m.input('changing', 'int32', ['R', 'N'])], { axis: 1 }))
  m.output('best', m.emit('Concat', told, { axis: 1 }), ['R', isChanging ? 'W' : 2 + 2 * count])
  return m.encode()
}

function belowLargest(m: ModelBuilder, logits: string): string {
  return m.emit('Sub', [logits, m.emit('ReduceMax', [logits, m.integers([1])])])
}

function sumOfPowers(m: ModelBuilder, x: string): string {
  return m.emit('ReduceSum', [m.emit('Exp', [x]), m.integers([1])])
}

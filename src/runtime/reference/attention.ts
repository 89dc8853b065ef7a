// Attention in float64, one score at a time: the definition, and its derivative beside it.
import { sizeOf } from '../../tensor/tensor.ts'
import type { Dense, Kernel } from './kernel.ts'

/** What is attended to: a past, and new keys and values beside it. */
interface Given {
  readonly query: Dense
  readonly pastKey: Dense
  readonly pastValue: Dense
  readonly pastLengths: Dense
  /** Absent where there is a past alone. */
  readonly key: Dense | undefined
  readonly value: Dense | undefined
  /** How many new keys each row sees; null: each query those up to its own. */
  readonly keyLengths: Dense | null
}

/** One attention problem: where each number lies, and which positions a query sees. */
class Geometry {
  readonly given: Given
  readonly batch: number
  readonly queries: number
  readonly heads: number
  readonly headDim: number
  readonly past: number
  /** New keys. */
  readonly keys: number

  constructor(given: Given, heads: number) {
    const { query, key, pastKey } = given
    this.given = given
    this.heads = heads
    this.batch = query.shape[0]!
    this.queries = query.shape[1]!
    this.headDim = query.shape[2]! / heads
    this.past = pastKey.shape[3]!
    this.keys = key?.shape[1] ?? 0
  }

  /** Index into query or output: [batch, position, head, d]. */
  at(b: number, position: number, h: number, d: number): number {
    return ((b * this.queries + position) * this.heads + h) * this.headDim + d
  }
  /** Index into new keys or values, [batch, position, head, d]. */
  keyAt(b: number, position: number, h: number, d: number): number {
    return ((b * this.keys + position) * this.heads + h) * this.headDim + d
  }
  /** Index into past keys, [batch, head, d, position]; a past of batch 1 serves every row. */
  pastKeyAt(b: number, position: number, h: number, d: number): number {
    return ((this.#pastBatch(b) * this.heads + h) * this.headDim + d) * this.past + position
  }
  /** Index into past values, [batch, head, position, d]. */
  pastValueAt(b: number, position: number, h: number, d: number): number {
    return ((this.#pastBatch(b) * this.heads + h) * this.past + position) * this.headDim + d
  }
  pastLength(b: number, query: number): number {
    const { data, shape } = this.given.pastLengths
    const row = shape[0] === 1 ? 0 : b
    return shape.length === 1 ? data[row]! : data[row * this.queries + query]!
  }
  /** New keys that a query sees. */
  keysSeen(b: number, query: number): number {
    if (this.given.key === undefined) return 0
    return this.given.keyLengths === null ? query + 1 : this.given.keyLengths.data[b]!
  }
  #pastBatch(b: number): number {
    return this.given.pastKey.shape[0] === 1 ? 0 : b
  }

  /** Softmax over past and new positions; the past comes first, and what is not seen has weight 0. */
  weights(b: number, h: number, query: number): Float64Array {
    const { query: q, key, pastKey } = this.given
    const scores = new Float64Array(this.past + this.keys).fill(-Infinity)
    const dot = (keys: Dense, keyAt: (d: number) => number): number => {
      let sum = 0
      for (let d = 0; d < this.headDim; d++) sum += q.data[this.at(b, query, h, d)]! * keys.data[keyAt(d)]!
      return sum / Math.sqrt(this.headDim)
    }
    for (let p = 0; p < this.pastLength(b, query); p++) scores[p] = dot(pastKey, (d) => this.pastKeyAt(b, p, h, d))
    for (let t = 0; t < this.keysSeen(b, query); t++) scores[this.past + t] = dot(key!, (d) => this.keyAt(b, t, h, d))
    const max = scores.reduce((a, c) => Math.max(a, c), -Infinity)
    const exponentials = scores.map((s) => Math.exp(s - max))
    const sum = exponentials.reduce((a, c) => a + c, 0)
    return exponentials.map((e) => e / sum)
  }

  eachQuery(each: (b: number, h: number, query: number) => void): void {
    for (let b = 0; b < this.batch; b++)
      for (let h = 0; h < this.heads; h++) for (let q = 0; q < this.queries; q++) each(b, h, q)
  }
}

function forward(given: Given, heads: number): Float64Array {
  const g = new Geometry(given, heads)
  const { value: v, pastValue } = given
  const out = new Float64Array(given.query.data.length)
  g.eachQuery((b, h, query) => {
    g.weights(b, h, query).forEach((weight, j) => {
      if (weight === 0) return
      for (let d = 0; d < g.headDim; d++) {
        const value = j < g.past ? pastValue.data[g.pastValueAt(b, j, h, d)]! : v!.data[g.keyAt(b, j - g.past, h, d)]!
        out[g.at(b, query, h, d)]! += weight * value
      }
    })
  })
  return out
}

interface Cotangents {
  readonly query: Float64Array
  readonly key: Float64Array
  readonly value: Float64Array
  readonly pastKey: Float64Array
  readonly pastValue: Float64Array
}

// With a = softmax(s): ds = a·(da − Σ a·da), dq = ds·k/√d, dk = dsᵀ·q/√d, dv = aᵀ·do.
function backward(given: Given, ct: Dense, heads: number): Cotangents {
  const g = new Geometry(given, heads)
  const { query: q, key: k, value: v, pastKey, pastValue } = given
  const zeros = (like: Dense | undefined): Float64Array => new Float64Array(sizeOf(like?.shape ?? [0]))
  const [dq, dk, dv, dPastKey, dPastValue] = [zeros(q), zeros(k), zeros(v), zeros(pastKey), zeros(pastValue)]
  const root = Math.sqrt(g.headDim)
  g.eachQuery((b, h, query) => {
    const weights = g.weights(b, h, query)
    const from = (j: number, d: number): readonly [number, number] =>
      j < g.past
        ? [g.pastKeyAt(b, j, h, d), g.pastValueAt(b, j, h, d)]
        : [g.keyAt(b, j - g.past, h, d), g.keyAt(b, j - g.past, h, d)]
    const da = weights.map((weight, j) => {
      let sum = 0
      if (weight !== 0)
        for (let d = 0; d < g.headDim; d++)
          sum += ct.data[g.at(b, query, h, d)]! * (j < g.past ? pastValue : v!).data[from(j, d)[1]]!
      return sum
    })
    const mean = weights.reduce((sum, weight, j) => sum + weight * da[j]!, 0)
    weights.forEach((weight, j) => {
      if (weight === 0) return
      const ds = (weight * (da[j]! - mean)) / root
      for (let d = 0; d < g.headDim; d++) {
        const here = g.at(b, query, h, d)
        const [keyAt, valueAt] = from(j, d)
        const isPast = j < g.past
        dq[here]! += ds * (isPast ? pastKey : k!).data[keyAt]!
        ;(isPast ? dPastKey : dk)[keyAt]! += ds * q.data[here]!
        ;(isPast ? dPastValue : dv)[valueAt]! += weight * ct.data[here]!
      }
    })
  })
  return { query: dq, key: dk, value: dv, pastKey: dPastKey, pastValue: dPastValue }
}

function causal([query, key, value, pastKey, pastValue, pastLengths]: readonly Dense[]): Given {
  return {
    query: query!,
    key: key!,
    value: value!,
    pastKey: pastKey!,
    pastValue: pastValue!,
    pastLengths: pastLengths!,
    keyLengths: null,
  }
}

function unordered([query, pastKey, pastValue, pastLengths, key, value, keyLengths]: readonly Dense[]): Given {
  return {
    query: query!,
    key,
    value,
    pastKey: pastKey!,
    pastValue: pastValue!,
    pastLengths: pastLengths!,
    keyLengths: keyLengths ?? null,
  }
}

export const attention: Kernel<'attention'> = ({ attributes: { heads } }, inputs) => [forward(causal(inputs), heads)]

export const attentionGrad: Kernel<'attentionGrad'> = ({ attributes: { heads } }, inputs) => {
  const { query, key, value, pastKey, pastValue } = backward(causal(inputs), inputs[6]!, heads)
  return [query, key, value, pastKey, pastValue]
}

export const crossAttention: Kernel<'crossAttention'> = ({ attributes: { heads } }, inputs) => [
  forward(unordered(inputs), heads),
]

export const crossAttentionGrad: Kernel<'crossAttentionGrad'> = ({ attributes: { heads }, outputs }, inputs) => {
  const { query, key, value, pastKey, pastValue } = backward(unordered(inputs.slice(0, -1)), inputs.at(-1)!, heads)
  return [query, pastKey, pastValue, key, value].slice(0, outputs.length)
}

// Attention in float64, one score at a time: the definition, and its derivative beside it.
import type { Dense, Kernel } from './kernel.ts'

/** One attention problem: where each number lies, and which positions a query sees. */
class Geometry {
  readonly batch: number
  readonly queries: number
  readonly heads: number
  readonly headDim: number
  readonly past: number
  readonly #inputs: readonly Dense[]

  constructor(inputs: readonly Dense[], heads: number) {
    const [query, , , pastKey] = inputs
    this.#inputs = inputs
    this.heads = heads
    this.batch = query!.shape[0]!
    this.queries = query!.shape[1]!
    this.headDim = query!.shape[2]! / heads
    this.past = pastKey!.shape[3]!
  }

  /** Index into query, key, value or output: [batch, position, head, d]. */
  at(b: number, position: number, h: number, d: number): number {
    return ((b * this.queries + position) * this.heads + h) * this.headDim + d
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
    const { data, shape } = this.#inputs[5]!
    const row = shape[0] === 1 ? 0 : b
    return shape.length === 1 ? data[row]! : data[row * this.queries + query]!
  }
  #pastBatch(b: number): number {
    return this.#inputs[3]!.shape[0] === 1 ? 0 : b
  }

  /** Softmax over past and new positions; the past comes first, and what is not seen has weight 0. */
  weights(b: number, h: number, query: number): Float64Array {
    const [q, k, , pastKey] = this.#inputs
    const scores = new Float64Array(this.past + this.queries).fill(-Infinity)
    const dot = (keys: Dense, keyAt: (d: number) => number): number => {
      let sum = 0
      for (let d = 0; d < this.headDim; d++) sum += q!.data[this.at(b, query, h, d)]! * keys.data[keyAt(d)]!
      return sum / Math.sqrt(this.headDim)
    }
    for (let p = 0; p < this.pastLength(b, query); p++) scores[p] = dot(pastKey!, (d) => this.pastKeyAt(b, p, h, d))
    for (let t = 0; t <= query; t++) scores[this.past + t] = dot(k!, (d) => this.at(b, t, h, d))
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

export const attention: Kernel<'attention'> = ({ attributes: { heads } }, inputs) => {
  const g = new Geometry(inputs, heads)
  const [, , v, , pastValue] = inputs
  const out = new Float64Array(v!.data.length)
  g.eachQuery((b, h, query) => {
    g.weights(b, h, query).forEach((weight, j) => {
      if (weight === 0) return
      for (let d = 0; d < g.headDim; d++) {
        const value = j < g.past ? pastValue!.data[g.pastValueAt(b, j, h, d)]! : v!.data[g.at(b, j - g.past, h, d)]!
        out[g.at(b, query, h, d)]! += weight * value
      }
    })
  })
  return [out]
}

// With a = softmax(s): ds = a·(da − Σ a·da), dq = ds·k/√d, dk = dsᵀ·q/√d, dv = aᵀ·do.
export const attentionGrad: Kernel<'attentionGrad'> = ({ attributes: { heads } }, inputs, shapes) => {
  const g = new Geometry(inputs, heads)
  const [q, k, v, pastKey, pastValue, , ct] = inputs
  const [dq, dk, dv, dPastKey, dPastValue] = shapes.map((shape) => new Float64Array(shape.reduce((a, b) => a * b, 1)))
  const root = Math.sqrt(g.headDim)
  g.eachQuery((b, h, query) => {
    const weights = g.weights(b, h, query)
    const from = (j: number, d: number): readonly [number, number] =>
      j < g.past
        ? [g.pastKeyAt(b, j, h, d), g.pastValueAt(b, j, h, d)]
        : [g.at(b, j - g.past, h, d), g.at(b, j - g.past, h, d)]
    const da = weights.map((weight, j) => {
      let sum = 0
      if (weight !== 0)
        for (let d = 0; d < g.headDim; d++)
          sum += ct!.data[g.at(b, query, h, d)]! * (j < g.past ? pastValue! : v!).data[from(j, d)[1]]!
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
        dq![here]! += ds * (isPast ? pastKey! : k!).data[keyAt]!
        ;(isPast ? dPastKey! : dk!)[keyAt]! += ds * q!.data[here]!
        ;(isPast ? dPastValue! : dv!)[valueAt]! += weight * ct!.data[here]!
      }
    })
  })
  return [dq!, dk!, dv!, dPastKey!, dPastValue!]
}

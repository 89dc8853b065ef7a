// The float64 kernel of each op: loops over the definition, and nothing clever.
import assert from 'node:assert/strict'
import type { OpName } from '../../graph/ops.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import { attention, attentionGrad, crossAttention, crossAttentionGrad } from './attention.ts'
import { normalDensity, normalDistribution } from './normal.ts'
import type { Dense, Kernel } from './kernel.ts'

const lastOf = (x: Dense): number => x.shape.at(-1) as number
const isLeaf = (node: { readonly op: OpName }): never =>
  assert.fail(`${node.op} has no kernel: the runtime fills it in`)

/** The index into a tensor of `shape` that broadcasts to flat index `i` of `wider`. */
function broadcastIndex(i: number, wider: readonly number[], shape: readonly number[]): number {
  let index = 0
  let stride = 1
  for (let axis = wider.length - 1, own = shape.length - 1; own >= 0; axis--, own--) {
    const extent = wider[axis]!
    if (shape[own] !== 1) index += (i % extent) * stride
    i = Math.floor(i / extent)
    stride *= shape[own]!
  }
  return index
}

const elementwise = (
  x: Dense,
  y: Dense,
  shape: readonly number[],
  f: (a: number, b: number) => number,
): Float64Array[] => [
  Float64Array.from({ length: sizeOf(shape) }, (_, i) =>
    f(x.data[broadcastIndex(i, shape, x.shape)]!, y.data[broadcastIndex(i, shape, y.shape)]!),
  ),
]

/** Copies blocks between a whole and the parts it has along `axis`. */
function alongAxis(
  whole: readonly number[],
  axis: number,
  sizes: readonly number[],
  copy: (part: number, from: number, to: number, length: number) => void,
): void {
  const inner = sizeOf(whole.slice(axis + 1))
  const outer = sizeOf(whole.slice(0, axis))
  for (let o = 0; o < outer; o++) {
    let at = o * whole[axis]! * inner
    sizes.forEach((size, part) => {
      copy(part, o * size * inner, at, size * inner)
      at += size * inner
    })
  }
}

/** Calls `each` with x̂ = (x − mean) / σ of every row, and σ = √(variance + ε). */
function layerNorm(
  x: Dense,
  epsilon: number,
  each: (row: number, normalized: Float64Array, sigma: number) => void,
): void {
  const width = lastOf(x)
  for (let row = 0; row * width < x.data.length; row++) {
    const values = Float64Array.from(x.data.subarray(row * width, (row + 1) * width))
    const mean = values.reduce((a, b) => a + b, 0) / width
    const sigma = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / width + epsilon)
    each(
      row,
      values.map((v) => (v - mean) / sigma),
      sigma,
    )
  }
}

const geluScale = Math.sqrt(2 / Math.PI)
const geluInner = (x: number): number => Math.tanh(geluScale * (x + 0.044715 * x ** 3))

/** Calls `each` with the softmax of every row of hidden · tableᵀ + bias. */
function eachSoftmax(
  hidden: Dense,
  table: Dense,
  bias: Dense | undefined,
  each: (row: number, probabilities: Float64Array) => void,
): void {
  const [vocabulary, width] = table.shape as [number, number]
  for (let row = 0; row * width < hidden.data.length; row++) {
    const logits = Float64Array.from({ length: vocabulary }, (_, v) => bias?.data[v] ?? 0)
    for (let v = 0; v < vocabulary; v++)
      for (let d = 0; d < width; d++) logits[v]! += hidden.data[row * width + d]! * table.data[v * width + d]!
    const max = logits.reduce((a, b) => Math.max(a, b), -Infinity)
    const exponentials = logits.map((l) => Math.exp(l - max))
    const sum = exponentials.reduce((a, b) => a + b, 0)
    each(
      row,
      exponentials.map((e) => e / sum),
    )
  }
}

export const kernels: { readonly [Op in OpName]: Kernel<Op> } = {
  input: isLeaf,
  weight: isLeaf,
  constant: isLeaf,

  add: (_, [x, y], [shape]) => elementwise(x!, y!, shape!, (a, b) => a + b),
  mul: (_, [x, y], [shape]) => elementwise(x!, y!, shape!, (a, b) => a * b),
  tanh: (_, [x]) => [Float64Array.from(x!.data, Math.tanh)],

  linear: ({ attributes: { transposed } }, [x, w, b], [shape]) => {
    const [inner, outer] = [lastOf(x!), shape!.at(-1)!]
    const out = new Float64Array(sizeOf(shape!))
    for (let i = 0; i < out.length; i++) {
      const [row, column] = [Math.floor(i / outer), i % outer]
      let sum = b === undefined ? 0 : b.data[column]!
      for (let k = 0; k < inner; k++)
        sum += x!.data[row * inner + k]! * w!.data[transposed ? column * inner + k : k * outer + column]!
      out[i] = sum
    }
    return [out]
  },
  outer: (_, [x, y], [shape]) => {
    const [m, n] = shape as readonly [number, number]
    const out = new Float64Array(m * n)
    for (let row = 0; row * m < x!.data.length; row++)
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) out[i * n + j]! += x!.data[row * m + i]! * y!.data[row * n + j]!
    return [out]
  },

  reshape: (_, [x]) => [Float64Array.from(x!.data)],
  transpose: ({ attributes: { permutation } }, [x], [shape]) => {
    const strides = x!.shape.map((_, axis) => sizeOf(x!.shape.slice(axis + 1)))
    return [
      Float64Array.from({ length: x!.data.length }, (_, i) => {
        let source = 0
        for (let axis = shape!.length - 1; axis >= 0; axis--) {
          source += (i % shape![axis]!) * strides[permutation[axis]!]!
          i = Math.floor(i / shape![axis]!)
        }
        return x!.data[source]!
      }),
    ]
  },
  split: ({ attributes: { axis, sizes } }, [x], shapes) => {
    const parts = shapes.map((shape) => new Float64Array(sizeOf(shape)))
    alongAxis(x!.shape, axis, sizes, (part, from, at, length) =>
      parts[part]!.set(x!.data.subarray(at, at + length), from),
    )
    return parts
  },
  concat: ({ attributes: { axis } }, inputs, [shape]) => {
    const whole = new Float64Array(sizeOf(shape!))
    const sizes = inputs.map((input) => input.shape[axis]!)
    alongAxis(shape!, axis, sizes, (part, from, at, length) =>
      whole.set(inputs[part]!.data.subarray(from, from + length), at),
    )
    return [whole]
  },
  sumTo: (_, [x], [shape]) => {
    const out = new Float64Array(sizeOf(shape!))
    x!.data.forEach((value, i) => {
      out[broadcastIndex(i, x!.shape, shape!)]! += value
    })
    return [out]
  },
  broadcastTo: (_, [x], [shape]) => [
    Float64Array.from({ length: sizeOf(shape!) }, (_, i) => x!.data[broadcastIndex(i, shape!, x!.shape)]!),
  ],

  joinRows: (_, inputs, [shape]) => {
    const out = new Float64Array(sizeOf(shape!))
    let at = 0
    for (const { data } of inputs) {
      out.set(data, at)
      at += data.length
    }
    return [out]
  },
  splitRows: (_, [x], shapes) => {
    let at = 0
    return shapes.map((shape) => Float64Array.from(x!.data.subarray(at, (at += sizeOf(shape)))))
  },

  gather: (_, [x, indices], [shape]) => {
    const width = lastOf(x!)
    const out = new Float64Array(sizeOf(shape!))
    indices!.data.forEach((row, i) => out.set(x!.data.subarray(row * width, (row + 1) * width), i * width))
    return [out]
  },
  scatterAdd: (_, [rows, indices], [shape]) => {
    const width = lastOf(rows!)
    const out = new Float64Array(sizeOf(shape!))
    indices!.data.forEach((row, i) => {
      for (let d = 0; d < width; d++) out[row * width + d]! += rows!.data[i * width + d]!
    })
    return [out]
  },

  layerNorm: ({ attributes: { epsilon } }, [x, scale, shift], [shape]) => {
    const out = new Float64Array(sizeOf(shape!))
    layerNorm(x!, epsilon, (row, normalized) =>
      out.set(
        normalized.map((v, d) => v * scale!.data[d]! + shift!.data[d]!),
        row * normalized.length,
      ),
    )
    return [out]
  },
  // dx = (g − mean(g) − x̂·mean(g·x̂)) / σ with g = dy·scale.
  layerNormGrad: ({ attributes: { epsilon } }, [x, scale, , ct], [shape]) => {
    const out = new Float64Array(sizeOf(shape!))
    layerNorm(x!, epsilon, (row, normalized, sigma) => {
      const width = normalized.length
      const g = normalized.map((_, d) => ct!.data[row * width + d]! * scale!.data[d]!)
      const mean = g.reduce((a, b) => a + b, 0) / width
      const meanProduct = g.reduce((a, b, d) => a + b * normalized[d]!, 0) / width
      out.set(
        g.map((v, d) => (v - mean - normalized[d]! * meanProduct) / sigma),
        row * width,
      )
    })
    return [out]
  },

  // y = x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
  gelu: (_, [x]) => [Float64Array.from(x!.data, (v) => 0.5 * v * (1 + geluInner(v)))],
  geluGrad: (_, [x, ct]) => [
    Float64Array.from(x!.data, (v, i) => {
      const t = geluInner(v)
      return ct!.data[i]! * (0.5 * (1 + t) + 0.5 * v * (1 - t * t) * geluScale * (1 + 3 * 0.044715 * v * v))
    }),
  ],

  // y = x·Φ(x), so dy/dx = Φ(x) + x·φ(x).
  exactGelu: (_, [x]) => [Float64Array.from(x!.data, (v) => v * normalDistribution(v))],
  exactGeluGrad: (_, [x, ct]) => [
    Float64Array.from(x!.data, (v, i) => ct!.data[i]! * (normalDistribution(v) + v * normalDensity(v))),
  ],

  attention,
  attentionGrad,
  crossAttention,
  crossAttentionGrad,

  crossEntropy: ({ attributes: { smoothing } }, [hidden, table, labels, bias], [shape]) => {
    const out = new Float64Array(sizeOf(shape!))
    eachSoftmax(hidden!, table!, bias, (row, probabilities) => {
      const mean = -probabilities.reduce((sum, p) => sum + Math.log(p), 0) / probabilities.length
      out[row] = -(1 - smoothing) * Math.log(probabilities[labels!.data[row]!]!) + smoothing * mean
    })
    return [out]
  },
  // d hidden = (softmax − (1 − ε)·onehot(label) − ε/vocabulary) · table, times the row's cotangent.
  crossEntropyGrad: ({ attributes: { smoothing } }, inputs, [shape]) => {
    const [hidden, table, labels, bias] = inputs.slice(0, -1)
    const ct = inputs.at(-1)
    const out = new Float64Array(sizeOf(shape!))
    const width = lastOf(hidden!)
    eachSoftmax(hidden!, table!, bias, (row, probabilities) => {
      probabilities[labels!.data[row]!]! -= 1 - smoothing
      probabilities.forEach((p, v) => {
        const slope = ct!.data[row]! * (p - smoothing / probabilities.length)
        for (let d = 0; d < width; d++) out[row * width + d]! += slope * table!.data[v * width + d]!
      })
    })
    return [out]
  },
}

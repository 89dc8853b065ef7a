// A row of logits in memory that vector instructions reach, and what is asked of all of it: a part of every decode step.
import assert from 'node:assert/strict'
import { blockLength, type RowKernels, rowKernels } from './row-kernels.ts'
import { encodeModule } from './vector-code.ts'

const pageBytes = 65_536
/** So large that logits which differ are far apart, and so small that no difference of two overflows. */
const scaleMax = 1e30

/** Not in the types of Node.js. */
declare const WebAssembly: {
  readonly Memory: new (limits: { readonly initial: number }) => { readonly buffer: ArrayBuffer }
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown }
}

const kernels = new WebAssembly.Module(encodeModule(rowKernels))

/** One row at a time. To copy it here and go through it with vectors takes a fraction of the time of loops in JavaScript. */
export class RowPasses {
  /** [vocabulary]; whoever has a row puts it here, and may change it. */
  readonly logits: Float32Array
  /** The largest of each block, after `largest`. */
  readonly tops: Float32Array
  /** Of each block, after `weigh`: to 1e-6 of it, and of those below 1e-30 of the largest weight nothing is known. */
  readonly weights: Float32Array
  readonly #moments: Float32Array
  readonly #kernels: RowKernels
  readonly #end: number

  constructor(vocabulary: number) {
    const blocks = Math.ceil(vocabulary / blockLength)
    this.#end = 4 * blockLength * blocks
    const initial = Math.ceil((this.#end + 3 * 4 * blocks) / pageBytes)
    const memory = new WebAssembly.Memory({ initial })
    this.#kernels = new WebAssembly.Instance(kernels, { host: { memory } }).exports as RowKernels
    const floats = (from: number, length: number): Float32Array => new Float32Array(memory.buffer, from, length)
    // What is left of the last block is no token.
    floats(0, blocks * blockLength).fill(-Infinity)
    this.logits = floats(0, vocabulary)
    this.tops = floats(this.#end, blocks)
    this.weights = floats(this.#end + 4 * blocks, blocks)
    this.#moments = floats(this.#end + 8 * blocks, blocks)
  }

  /** Notes the largest logit of each block; answers the largest of all, which must be a finite one. */
  largest(): number {
    this.#kernels.tops(0, this.#end, this.tops.byteOffset)
    let largest = -Infinity
    for (let block = 0; block < this.tops.length; block++) {
      if ((this.tops[block] as number) > largest) largest = this.tops[block] as number
    }
    assert.ok(Number.isFinite(largest), 'there is no finite logit')
    return largest
  }

  /** The token with the largest logit, the lowest such token if there are several. */
  argmax(): number {
    const largest = this.largest()
    return this.logits.indexOf(largest, this.tops.indexOf(largest) * blockLength)
  }

  /** log Σ e^logit, in nats. */
  logSumExp(): number {
    const largest = this.largest()
    return largest + Math.log(this.weigh(largest, 1))
  }

  /** The `count` tokens of the largest logits, the largest first, of equals the lower token first; after `largest`. */
  largestTokens(count: number): number[] {
    if (count === 0) return []
    const { logits, tops } = this
    const tokens: number[] = []
    let floor = -Infinity // What a token must be above once there are enough.
    for (let start = 0; start < logits.length; start += blockLength) {
      if ((tops[start / blockLength] as number) <= floor) continue
      const end = Math.min(start + blockLength, logits.length)
      for (let i = start; i < end; i++) {
        const logit = logits[i] as number
        if (logit <= floor) continue
        let at = tokens.length
        while (at > 0 && (logits[tokens[at - 1] as number] as number) < logit) at--
        tokens.splice(at, 0, i)
        if (tokens.length > count) tokens.pop()
        if (tokens.length === count) floor = logits[tokens[count - 1] as number] as number
      }
    }
    return tokens
  }

  /** Notes Σ e^((logit - largest) · scale) of each block; answers the sum of all. */
  weigh(largest: number, scale: number): number {
    this.#kernels.weights(0, this.#end, this.weights.byteOffset, largest, ofTwo(scale))
    return sumOf(this.weights)
  }

  /** The same, and the mean of (largest - logit) · scale by these weights. */
  weighWithMean(largest: number, scale: number): { readonly sum: number; readonly mean: number } {
    const moments = this.#moments
    this.#kernels.moments(0, this.#end, this.weights.byteOffset, largest, ofTwo(scale), moments.byteOffset)
    const sum = sumOf(this.weights)
    return { sum, mean: (-Math.LN2 * sumOf(moments)) / sum }
  }
}

function ofTwo(scale: number): number {
  return Math.min(scale, scaleMax) / Math.LN2
}

function sumOf(values: Float32Array): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] as number
  return sum
}

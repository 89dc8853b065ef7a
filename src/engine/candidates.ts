// The tokens that may still be drawn: filters make them fewer, in memory that is used again for every row.
import assert from 'node:assert/strict'
import { blockLength } from './row-kernels.ts'
import type { RowPasses } from './row-passes.ts'
import { exponentMax, expOfMinus, largestOf, weightOf } from './softmax.ts'

/** Of exponents, within which the typical set is looked for; the next where the one before was too small. */
const typicalWidths = [4, 8, 16, exponentMax]
/** Candidates of which the largest is looked for together, where many are to be kept. */
const shortBlockLength = 16
/** Parts of such a width whose weights are summed. */
const bucketsMax = 1024

/**
 * Starts as the whole row of logits in `passes`, which stays as it is. All filters keep the tokens in their order, and at least one.
 * Weights are softmax's but for their sum: e^((logit - largest) / temperature).
 */
export class Candidates {
  readonly #passes: RowPasses
  readonly #ownTokens: Int32Array
  readonly #ownLogits: Float32Array
  readonly #places: Int32Array
  readonly #heap: Float32Array
  readonly #depths: Float64Array
  readonly #masses = new Float64Array(bucketsMax + 1)
  readonly #blocks: Float64Array
  /** null: the i-th candidate is the token i. */
  #tokens: Int32Array | null = null
  #logits: Float32Array
  #count = 0
  #largest = 0
  /** 1 / temperature */
  #scale = 1

  constructor(passes: RowPasses) {
    const { length } = passes.logits
    this.#passes = passes
    this.#ownTokens = new Int32Array(length)
    this.#ownLogits = new Float32Array(length)
    this.#places = new Int32Array(length)
    this.#depths = new Float64Array(length)
    this.#heap = new Float32Array(length)
    this.#blocks = new Float64Array(passes.tops.length)
    this.#logits = passes.logits
  }

  get count(): number {
    return this.#count
  }

  /** The row must not change while candidates of it are drawn from. */
  start(temperature: number): void {
    this.#tokens = null
    this.#logits = this.#passes.logits
    this.#count = this.#logits.length
    this.#scale = Math.min(1 / temperature, Number.MAX_VALUE)
    this.#largest = this.#passes.largest()
  }

  /** Keeps the `k` largest; all that equal the last of them stay, so that the result does not hang on their order. */
  keepTopK(k: number): void {
    if (k >= this.#count) return
    const heap = this.#heap.subarray(0, k)
    // The k-th largest of the largest of each block is no more than the k-th of all: what lies below goes first.
    const tops = this.#tokens === null && k < this.#passes.tops.length ? this.#passes.tops : this.#shortTops()
    if (k < tops.length) this.#keepFrom(nthLargest(tops, tops.length, heap))
    if (k < this.#count) this.#keepFrom(nthLargest(this.#logits, this.#count, heap))
  }

  /**
   * Keeps the smallest set of most probable tokens whose probabilities sum to `p` or more (nucleus sampling, Holtzman et
   * al. 2020). Of equal probabilities the lower token counts as more probable.
   */
  keepTopP(p: number): void {
    if (p >= 1) return
    const sum = this.#weigh()
    // Weights below sum · (1 - p) / count sum to less than what may be left out: the set lies above.
    const width = Math.min(Math.max(Math.log(this.#count / (sum * (1 - p))), 1), exponentMax)
    this.#keepNearest(0, p * sum, false, [0.5 * width, width, exponentMax])
  }

  /** Keeps tokens at least `p` times as probable as the most probable one (Nguyen et al. 2024). 0: all. */
  keepMinP(p: number): void {
    if (p > 0) this.#keepFrom(this.#largest + Math.log(p) / this.#scale)
  }

  /**
   * Keeps the tokens whose information lies nearest to the entropy, until their probabilities sum to `mass` or more (locally
   * typical sampling, Meister et al. 2022, eq. 12), and all that are as near as the last. 1: all.
   */
  keepTypical(mass: number): void {
    if (mass >= 1) return
    // |-log p - H| = |exponent - Σ p · exponent|, as the logarithm of the sum stands in both.
    const { sum, mean } = this.#tokens === null ? this.#passes.weighWithMean(this.#largest, this.#scale) : this.#mean()
    this.#keepNearest(mean, mass * sum, true, typicalWidths)
  }

  /** The token at which the cumulative probability passes `uniform`, a number in [0, 1). */
  draw(uniform: number): number {
    const logits = this.#logits
    const count = this.#count
    const largest = this.#largest
    const scale = this.#scale
    const last = this.#weighBlocks()
    let sum = 0
    for (let block = 0; block <= last; block++) sum += this.#blocks[block] as number
    let left = uniform * sum
    let block = 0
    while (block < last && left >= (this.#blocks[block] as number)) left -= this.#blocks[block++] as number
    let drawn = -1
    for (let i = block * blockLength; i < Math.min((block + 1) * blockLength, count); i++) {
      const weight = expOfMinus((largest - (logits[i] as number)) * scale)
      if (weight === 0) continue
      drawn = i
      left -= weight
      if (left < 0) break
    }
    assert.ok(drawn >= 0, 'a block of some weight has a token of some weight')
    return this.#tokens === null ? drawn : (this.#tokens[drawn] as number)
  }

  /** The row that is left, its logits divided by the temperature and -Infinity elsewhere, for those who look at it. */
  toRow(row: Float32Array): void {
    row.fill(-Infinity)
    for (let i = 0; i < this.#count; i++) row[this.#tokens?.[i] ?? i] = (this.#logits[i] as number) * this.#scale
  }

  /** Σ of the weights of all candidates. */
  #weigh(): number {
    if (this.#tokens === null) return this.#passes.weigh(this.#largest, this.#scale)
    return weightOf(this.#logits, this.#largest, this.#scale, 0, this.#count)
  }

  /** The same, and the mean of the exponents by their weights. */
  #mean(): { readonly sum: number; readonly mean: number } {
    let sum = 0
    let moment = 0
    for (let i = 0; i < this.#count; i++) {
      const exponent = (this.#largest - (this.#logits[i] as number)) * this.#scale
      const weight = expOfMinus(exponent)
      if (weight === 0) continue
      sum += weight
      moment += weight * exponent
    }
    return { sum, mean: moment / sum }
  }

  /** Notes the weights of blocks of candidates; answers the last that has any: the draw ends there if rounding leaves a rest. */
  #weighBlocks(): number {
    const [blocks, count, largest, scale] = [this.#blocks, this.#count, this.#largest, this.#scale]
    const { tops, weights } = this.#passes
    const isWhole = this.#tokens === null
    if (isWhole) this.#passes.weigh(largest, scale)
    let last = 0
    for (let block = 0; block * blockLength < count; block++) {
      const start = block * blockLength
      if (!isWhole) {
        blocks[block] = weightOf(this.#logits, largest, scale, start, Math.min(start + blockLength, count))
      } else {
        // Where the largest is nothing, so are the others: as they are to `expOfMinus`.
        const isNothing = !((largest - (tops[block] as number)) * scale < exponentMax)
        blocks[block] = isNothing ? 0 : (weights[block] as number)
      }
      if ((blocks[block] as number) > 0) last = block
    }
    return last
  }

  /**
   * Keeps those whose exponent lies nearest to `middle`, of equals the lower token first, until their weights sum to `target`;
   * with `ties` all that are as near as the last. Looked for within the first of `widths` that has them.
   */
  #keepNearest(middle: number, target: number, ties: boolean, widths: readonly number[]): void {
    const [places, depths] = [this.#places, this.#depths]
    for (const width of widths) {
      const found = this.#gather(this.#largest - (middle + width) / this.#scale)
      const last = this.#reach(found, middle, width, target)
      if (last === null) continue
      const farthest = Math.abs((depths[last] as number) - middle)
      let kept = 0
      for (let i = 0; i < found; i++) {
        const far = Math.abs((depths[i] as number) - middle)
        if (far < farthest || (far === farthest && (ties || i <= last))) places[kept++] = places[i] as number
      }
      this.#keep(kept)
      return
    }
    // Only rounding leads here: what has any weight is the set.
    this.#keepFrom(this.#largest - exponentMax / this.#scale)
  }

  /**
   * Which of those found is the one at which the weights, the nearest to `middle` first, sum to `target`; null: they do not
   * within `width`. Notes the exponents. Only one bucket is sorted, the one where the sum gets there.
   */
  #reach(found: number, middle: number, width: number, target: number): number | null {
    const [places, depths, logits, largest, scale] = [
      ...([this.#places, this.#depths, this.#logits, this.#largest, this.#scale] as const),
    ]
    const masses = this.#masses.fill(0)
    const perUnit = bucketsMax / width
    for (let i = 0; i < found; i++) {
      const depth = (largest - (logits[places[i] as number] as number)) * scale
      depths[i] = depth
      const bucket = bucketOf(depth, middle, perUnit)
      masses[bucket] = (masses[bucket] as number) + expOfMinus(depth)
    }
    let mass = 0
    let bucket = 0
    while (bucket < bucketsMax && mass + (masses[bucket] as number) < target) mass += masses[bucket++] as number
    if (bucket === bucketsMax) return null
    const border: number[] = []
    for (let i = 0; i < found; i++) if (bucketOf(depths[i] as number, middle, perUnit) === bucket) border.push(i)
    const far = (i: number): number => Math.abs((depths[i] as number) - middle)
    border.sort((a, b) => far(a) - far(b) || a - b)
    for (const i of border) {
      mass += expOfMinus(depths[i] as number)
      if (mass >= target) return i
    }
    return border.at(-1) ?? null // Summed in another order it was reached, by a rounding error.
  }

  /** The largest logit of each few candidates. */
  #shortTops(): Float64Array {
    const tops = this.#depths.subarray(0, Math.ceil(this.#count / shortBlockLength))
    for (let block = 0; block < tops.length; block++) {
      const start = block * shortBlockLength
      tops[block] = largestOf(this.#logits, start, Math.min(start + shortBlockLength, this.#count))
    }
    return tops
  }

  #keepFrom(floor: number): void {
    this.#keep(this.#gather(floor))
  }

  /** Notes the places of all candidates with at least this logit, in their order; answers how many. */
  #gather(floor: number): number {
    const [logits, places, count] = [this.#logits, this.#places, this.#count]
    const tops = this.#tokens === null ? this.#passes.tops : null
    let found = 0
    for (let start = 0; start < count; start += blockLength) {
      if (tops !== null && !((tops[start / blockLength] as number) >= floor)) continue
      const end = Math.min(start + blockLength, count)
      for (let i = start; i < end; i++) if ((logits[i] as number) >= floor) places[found++] = i
    }
    return found
  }

  /** The first `count` places become the candidates: they are in order, so what is written lies at or before what is read. */
  #keep(count: number): void {
    const [before, from, places] = [this.#tokens, this.#logits, this.#places]
    const [tokens, logits] = [this.#ownTokens, this.#ownLogits]
    for (let i = 0; i < count; i++) {
      const place = places[i] as number
      tokens[i] = before === null ? place : (before[place] as number)
      logits[i] = from[place] as number
    }
    this.#tokens = tokens
    this.#logits = logits
    this.#count = count
    this.#largest = largestOf(logits, 0, count)
  }
}

/** The last one is too far. */
function bucketOf(depth: number, middle: number, perUnit: number): number {
  return Math.min(bucketsMax, Math.abs(depth - middle) * perUnit) | 0
}

/** The n-th largest of the first `count` values, where `heap` has room for n: the smallest of them is kept on top. */
function nthLargest(values: Float32Array | Float64Array, count: number, heap: Float32Array): number {
  heap.set(values.subarray(0, heap.length))
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) siftDown(heap, i)
  // Rounded, which changes nothing, to be a number to the compiler: what is read from an array might be missing.
  let floor = Math.fround(heap[0] as number)
  for (let i = heap.length; i < count; i++) {
    if ((values[i] as number) <= floor) continue
    heap[0] = values[i] as number
    siftDown(heap, 0)
    floor = Math.fround(heap[0])
  }
  return floor
}

function siftDown(heap: Float32Array, from: number): void {
  const value = heap[from] as number
  let parent = from
  for (;;) {
    let child = 2 * parent + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++
    if ((heap[child] as number) >= value) break
    heap[parent] = heap[child] as number
    parent = child
  }
  heap[parent] = value
}

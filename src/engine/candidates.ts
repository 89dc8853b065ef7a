// The tokens that may still be drawn: filters make them fewer, in memory that is used again for every row.
import assert from 'node:assert/strict'
import { exponentMax, expOfMinus, largestOf, weightOf } from './softmax.ts'

/** Of exponents, within which the typical set is looked for; the next where the one before was too small. */
const typicalWidths = [4, 8, 16, exponentMax]
/** Parts of such a width whose weights are summed. */
const bucketsMax = 1024
/** Tokens whose weights are summed together: the one drawn is then looked for in one block. */
const blockLength = 256
/** Tokens of which the largest is looked for together, where few are to be kept. */
const topBlockLength = 32

/**
 * Starts as a whole row of logits, which stays as it is. All filters keep the tokens in their order, and at least one.
 * Weights are softmax's but for their sum: e^((logit - largest) / temperature).
 */
export class Candidates {
  readonly #ownTokens: Int32Array
  readonly #ownLogits: Float32Array
  readonly #places: Int32Array
  readonly #heap: Float32Array
  readonly #depths: Float64Array
  readonly #buckets: Int16Array
  readonly #masses = new Float64Array(bucketsMax + 1)
  readonly #blocks: Float64Array
  /** null: the i-th candidate is the token i. */
  #tokens: Int32Array | null = null
  #logits: Float32Array
  #count = 0
  #largest = 0
  /** 1 / temperature */
  #scale = 1

  constructor(vocabulary: number) {
    this.#ownTokens = new Int32Array(vocabulary)
    this.#ownLogits = new Float32Array(vocabulary)
    this.#places = new Int32Array(vocabulary)
    this.#depths = new Float64Array(vocabulary)
    this.#buckets = new Int16Array(vocabulary)
    this.#heap = new Float32Array(vocabulary)
    this.#blocks = new Float64Array(Math.ceil(vocabulary / blockLength))
    this.#logits = this.#ownLogits
  }

  get count(): number {
    return this.#count
  }

  /** The row must not change while candidates of it are drawn from. */
  start(row: Float32Array, temperature: number): void {
    this.#tokens = null
    this.#logits = row
    this.#count = row.length
    this.#scale = Math.min(1 / temperature, Number.MAX_VALUE)
    this.#largest = largestOf(row)
    assert.ok(Number.isFinite(this.#largest), 'there is no finite logit')
  }

  /** Keeps the `k` largest; all that equal the last of them stay, so that the result does not hang on their order. */
  keepTopK(k: number): void {
    if (k >= this.#count) return
    const heap = this.#heap.subarray(0, k)
    // The k-th largest of the largest of so many blocks is no more than the k-th of all: what lies below goes first.
    const blocks = Math.ceil(this.#count / topBlockLength)
    if (k < blocks) {
      const tops = this.#depths.subarray(0, blocks)
      for (let block = 0; block < blocks; block++) {
        const start = block * topBlockLength
        tops[block] = largestOf(this.#logits, start, Math.min(start + topBlockLength, this.#count))
      }
      this.#keepFrom(nthLargest(tops, blocks, heap))
    }
    if (k < this.#count) this.#keepFrom(nthLargest(this.#logits, this.#count, heap))
  }

  /**
   * Keeps the smallest set of most probable tokens whose probabilities sum to `p` or more (nucleus sampling, Holtzman et
   * al. 2020). Of equal probabilities the lower token counts as more probable.
   */
  keepTopP(p: number): void {
    if (p >= 1) return
    const sum = weightOf(this.#logits, this.#largest, this.#scale, 0, this.#count)
    // Weights below sum · (1 - p) / count sum to less than what may be left out: the set lies above.
    const width = Math.min(Math.max(Math.log(this.#count / (sum * (1 - p))), 1), exponentMax)
    this.#keepNearest(0, p * sum, false, [0.5 * width, 0.75 * width, width, exponentMax])
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
    const logits = this.#logits
    const largest = this.#largest
    const scale = this.#scale
    let sum = 0
    let moment = 0
    const count = this.#count
    for (let i = 0; i < count; i++) {
      const exponent = (largest - (logits[i] as number)) * scale
      const weight = expOfMinus(exponent)
      if (weight === 0) continue
      sum += weight
      moment += weight * exponent
    }
    // |-log p - H| = |exponent - Σ p · exponent|, as the logarithm of the sum stands in both.
    this.#keepNearest(moment / sum, mass * sum, true, typicalWidths)
  }

  /** The token at which the cumulative probability passes `uniform`, a number in [0, 1). */
  draw(uniform: number): number {
    const logits = this.#logits
    const count = this.#count
    const largest = this.#largest
    const scale = this.#scale
    let sum = 0
    let last = 0 // Of the blocks that have any weight; the answer lies there if rounding leaves a rest.
    for (let block = 0; block * blockLength < count; block++) {
      const start = block * blockLength
      const weight = weightOf(logits, largest, scale, start, Math.min(start + blockLength, count))
      this.#blocks[block] = weight
      sum += weight
      if (weight > 0) last = block
    }
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

  /**
   * Keeps those whose exponent lies nearest to `middle`, of equals the lower token first, until their weights sum to `target`;
   * with `ties` all that are as near as the last. Looked for within the first of `widths` that has them.
   */
  #keepNearest(middle: number, target: number, ties: boolean, widths: readonly number[]): void {
    const places = this.#places
    const depths = this.#depths
    const before = this.#tokens
    const from = this.#logits
    for (const width of widths) {
      const found = this.#collect(this.#largest - (middle + width) / this.#scale)
      const last = this.#reach(found, middle, width, target)
      if (last === null) continue
      const farthest = Math.abs((depths[last] as number) - middle)
      let kept = 0
      for (let i = 0; i < found; i++) {
        const far = Math.abs((depths[i] as number) - middle)
        if (far > farthest || (far === farthest && i > last && !ties)) continue
        // Places are in their order: what is written lies at or before what is read.
        const place = places[i] as number
        const logit = from[place] as number
        this.#ownTokens[kept] = before === null ? place : (before[place] as number)
        this.#ownLogits[kept++] = logit
      }
      this.#own(kept)
      return
    }
    // Only rounding leads here: what has any weight is the set.
    this.#keepFrom(this.#largest - exponentMax / this.#scale)
  }

  /** Notes the places of all candidates with at least this logit, in their order, and their exponents; answers how many. */
  #collect(floor: number): number {
    const logits = this.#logits
    const count = this.#count
    const places = this.#places
    const depths = this.#depths
    const largest = this.#largest
    const scale = this.#scale
    let found = 0
    for (let i = 0; i < count; i++) {
      const logit = logits[i] as number
      if (!(logit >= floor)) continue
      places[found] = i
      depths[found++] = (largest - logit) * scale
    }
    return found
  }

  /**
   * Which of the collected is the one at which the weights, the nearest to `middle` first, sum to `target`; null: they do not
   * within `width`. Only one bucket of them is sorted, the one where the sum gets there.
   */
  #reach(found: number, middle: number, width: number, target: number): number | null {
    const depths = this.#depths
    const buckets = this.#buckets
    const masses = this.#masses.fill(0)
    const perUnit = bucketsMax / width
    for (let i = 0; i < found; i++) {
      const depth = depths[i] as number
      const bucket = Math.min(bucketsMax, Math.abs(depth - middle) * perUnit) | 0 // The last one is too far.
      buckets[i] = bucket
      masses[bucket] = (masses[bucket] as number) + expOfMinus(depth)
    }
    let mass = 0
    let bucket = 0
    while (bucket < bucketsMax && mass + (masses[bucket] as number) < target) mass += masses[bucket++] as number
    if (bucket === bucketsMax) return null
    const border: number[] = []
    for (let i = 0; i < found; i++) if (buckets[i] === bucket) border.push(i)
    const far = (i: number): number => Math.abs((depths[i] as number) - middle)
    border.sort((a, b) => far(a) - far(b) || a - b)
    for (const i of border) {
      mass += expOfMinus(depths[i] as number)
      if (mass >= target) return i
    }
    return border.at(-1) ?? null // Summed in another order it was reached, by a rounding error.
  }

  #keepFrom(floor: number): void {
    const before = this.#tokens
    const from = this.#logits
    const count = this.#count
    const tokens = this.#ownTokens
    const logits = this.#ownLogits
    let kept = 0
    for (let i = 0; i < count; i++) {
      const logit = from[i] as number
      if (!(logit >= floor)) continue
      tokens[kept] = before === null ? i : (before[i] as number)
      logits[kept++] = logit
    }
    this.#own(kept)
  }

  #own(kept: number): void {
    this.#tokens = this.#ownTokens
    this.#logits = this.#ownLogits
    this.#count = kept
    this.#largest = largestOf(this.#logits, 0, kept)
  }
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

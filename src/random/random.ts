// Seeded random numbers: the same seed gives the same stream on every machine, and a stream can be saved and continued.
import assert from 'node:assert/strict'

/** Plain JSON; `Random.from` continues where it was taken. */
export interface RandomState {
  /** Four unsigned 32-bit words of xoshiro128**. */
  readonly words: readonly number[]
  /** The second normal number of the last pair, when it was not handed out yet. */
  readonly spare: number | null
}

const MASK64 = 0xffff_ffff_ffff_ffffn
const GOLDEN_GAMMA = 0x9e37_79b9_7f4a_7c15n

/** xoshiro128** 1.1 (Blackman and Vigna 2018), seeded by splitmix64 as its authors advise. Not for secrets. */
export class Random {
  readonly #words = new Uint32Array(4)
  #spare: number | null = null

  /** `seed` is any safe integer. */
  constructor(seed: number) {
    const next = splitmix64(seedBits(seed))
    for (let i = 0; i < 4; i += 2) {
      const bits = next()
      this.#words[i] = Number(bits & 0xffff_ffffn)
      this.#words[i + 1] = Number(bits >> 32n)
    }
  }

  static from(state: RandomState): Random {
    const { words, spare } = state
    const valid = words.length === 4 && words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)
    assert.ok(valid && words.some((word) => word !== 0), 'a random state is four 32-bit words, not all zero')
    const random = new Random(0)
    random.#words.set(words)
    random.#spare = spare
    return random
  }

  state(): RandomState {
    return { words: [...this.#words], spare: this.#spare }
  }

  /** A whole number in [0, 2³²). */
  uint32(): number {
    const words = this.#words
    const [a, b, c, d] = words as unknown as [number, number, number, number]
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0
    words[0] = a ^ d ^ b
    words[1] = b ^ c ^ a
    words[2] = c ^ a ^ (b << 9)
    words[3] = rotateLeft(d ^ b, 11)
    return result
  }

  /** In [0, 1), with 53 random bits. */
  next(): number {
    const high = this.uint32() >>> 5 // 27 bits.
    const low = this.uint32() >>> 6 // 26 bits.
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** What `next` will answer. */
  peek(): number {
    return Random.from(this.state()).next()
  }

  /** A whole number in [0, bound), every one equally likely; `bound` is at most 2³². */
  below(bound: number): number {
    assert.ok(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32)
    // Draws above the last whole multiple of the bound are drawn again, or low numbers would come too often.
    const limit = 2 ** 32 - (2 ** 32 % bound)
    for (;;) {
      const draw = this.uint32()
      if (draw < limit) return draw % bound
    }
  }

  /** Mean 0, variance 1 (Box and Muller 1958); numbers come in pairs, and the second waits for the next call. */
  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare
      this.#spare = null
      return spare
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.next())) // 1 - next() is in (0, 1]: its logarithm is finite.
    const angle = 2 * Math.PI * this.next()
    this.#spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }

  /** Puts `items` into random order, in place (Fisher and Yates). */
  shuffle(items: unknown[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      const item = items[i]
      items[i] = items[j]
      items[j] = item
    }
  }
}

/** The seed of an independent stream, one for each list of numbers: a safe integer, 53 bits. */
export function forkSeed(seed: number, ...numbers: readonly number[]): number {
  let bits = splitmix64(seedBits(seed))()
  for (const number of numbers) bits = splitmix64(bits ^ seedBits(number))()
  return Number(bits >> 11n)
}

/** splitmix64 (Steele, Lea and Flood 2014), as published by Vigna. */
export function splitmix64(seed: bigint): () => bigint {
  let state = seed & MASK64
  return () => {
    state = (state + GOLDEN_GAMMA) & MASK64
    let z = state
    z = ((z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK64
    z = ((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK64
    return z ^ (z >> 31n)
  }
}

function seedBits(seed: number): bigint {
  assert.ok(Number.isSafeInteger(seed), `a seed is a whole number of at most 53 bits, not ${seed}`)
  return BigInt.asUintN(64, BigInt(seed))
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits))
}

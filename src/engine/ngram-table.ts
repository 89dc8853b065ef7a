// What came after runs of tokens in the texts of one task, in memory that has a limit.

/** Tokens of the longest run that is looked up. */
export const runMax = 6
/** Entries that a table begins with and grows to; 9 bytes each. */
const entriesFirst = 1 << 10
const entriesMax = 1 << 15
/** Entries that one run may lie in. */
const ways = 8
const bytesPerEntry = 9
/** How sure a table can be. */
export const countMax = 8

/** What came after a run, and how many times more often than anything else. */
export interface Follower {
  readonly token: number
  /** 1 to `countMax`. */
  readonly count: number
}

/** Runs are known by a hash of 32 bits: two that share it spoil each other's guess, and nothing else. */
export class NgramTable {
  #hashes = new Uint32Array(entriesFirst)
  #tokens = new Int32Array(entriesFirst)
  /** 0: the entry is free. */
  #counts = new Uint8Array(entriesFirst)
  #used = 0

  get bytes(): number {
    return bytesPerEntry * this.#counts.length
  }

  /** What came after the `length` tokens of `text` before `end`; null: nothing is known of them. */
  after(text: readonly number[], end: number, length: number): Follower | null {
    const entry = this.#find(hashOf(text, end, length))
    return entry < 0 ? null : { token: this.#tokens[entry] as number, count: this.#counts[entry] as number }
  }

  /** Says that `text[end]` came after them. */
  learn(text: readonly number[], end: number, length: number): void {
    const [hash, token] = [hashOf(text, end, length), text[end] as number]
    const entry = this.#find(hash)
    if (entry < 0) this.#put(hash, token, 1)
    else if (this.#tokens[entry] === token)
      this.#counts[entry] = Math.min(countMax, (this.#counts[entry] as number) + 1)
    else if ((this.#counts[entry] as number) > 1) this.#counts[entry] = (this.#counts[entry] as number) - 1
    else this.#tokens[entry] = token
  }

  #find(hash: number): number {
    const mask = this.#counts.length - 1
    for (let way = 0; way < ways; way++) {
      const entry = (hash + way) & mask
      if (this.#hashes[entry] === hash && (this.#counts[entry] as number) > 0) return entry
    }
    return -1
  }

  /** In a free entry, or in that of the least certain run, which grows less certain first. */
  #put(hash: number, token: number, count: number): void {
    if (this.#used > this.#counts.length / 2 && this.#counts.length < entriesMax) this.#grow()
    const mask = this.#counts.length - 1
    let least = hash & mask
    for (let way = 1; way < ways; way++) {
      const entry = (hash + way) & mask
      if ((this.#counts[entry] as number) < (this.#counts[least] as number)) least = entry
    }
    const held = this.#counts[least] as number
    if (held > 1) {
      this.#counts[least] = held - 1
      return
    }
    if (held === 0) this.#used++
    this.#hashes[least] = hash
    this.#tokens[least] = token
    this.#counts[least] = count
  }

  #grow(): void {
    const [hashes, tokens, counts] = [this.#hashes, this.#tokens, this.#counts]
    this.#hashes = new Uint32Array(2 * hashes.length)
    this.#tokens = new Int32Array(2 * hashes.length)
    this.#counts = new Uint8Array(2 * hashes.length)
    this.#used = 0
    counts.forEach((count, i) => {
      if (count > 0) this.#put(hashes[i] as number, tokens[i] as number, count)
    })
  }
}

function hashOf(text: readonly number[], end: number, length: number): number {
  let hash = length
  for (let i = end - length; i < end; i++) {
    hash = Math.imul(hash ^ (text[i] as number), 0x9e3779b1)
    hash ^= hash >>> 15
  }
  // So that all of it tells in the lowest bits, which choose the entry.
  hash = Math.imul(hash, 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

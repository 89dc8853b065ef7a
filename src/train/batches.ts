// Which examples go through the model together: rows of nearly the same length, in an order drawn from the seed.
import { forkSeed, Random } from '../random/random.ts'

/** No row of a batch is padded by more tokens than this. */
export const paddingMax = 8

/** Lengths are shaken by up to so many tokens before sorting, so that batches differ from epoch to epoch. */
const shake = 4

/** Indices of examples, batch by batch, for one pass over all of them. The same seed and epoch give the same batches. */
export function epochBatches(lengths: readonly number[], batchSize: number, seed: number, epoch: number): number[][] {
  const random = new Random(forkSeed(seed, epoch))
  const keys = lengths.map((length) => length + shake * random.next())
  const order = lengths.map((_, i) => i).sort((a, b) => (keys[a] as number) - (keys[b] as number))

  const batches: number[][] = []
  let batch: number[] = []
  let shortest = 0
  let longest = 0
  for (const index of order) {
    const length = lengths[index] as number
    const fits = batch.length < batchSize && Math.max(longest, length) - Math.min(shortest, length) <= paddingMax
    if (batch.length === 0 || !fits) {
      batches.push((batch = []))
      shortest = longest = length
    }
    batch.push(index)
    shortest = Math.min(shortest, length)
    longest = Math.max(longest, length)
  }
  random.shuffle(batches)
  return batches
}

/** Walks the batches of epoch after epoch; any step can be asked for, which is all a resumed run needs. */
export class BatchSequence {
  readonly #lengths: readonly number[]
  readonly #batchSize: number
  readonly #seed: number
  #epoch = -1
  #batches: number[][] = []
  /** Step at which the current epoch begins. */
  #start = 0

  constructor(lengths: readonly number[], batchSize: number, seed: number) {
    this.#lengths = lengths
    this.#batchSize = batchSize
    this.#seed = seed
  }

  /** Batches in the first `epochs` epochs together. */
  steps(epochs: number): number {
    let steps = 0
    for (let epoch = 0; epoch < epochs; epoch++) steps += this.#make(epoch).length
    return steps
  }

  /** The batch of step 0, 1, …; steps are asked for in rising order. */
  at(step: number): readonly number[] {
    while (step >= this.#start + this.#batches.length) {
      this.#start += this.#batches.length
      this.#epoch += 1
      this.#batches = this.#make(this.#epoch)
    }
    return this.#batches[step - this.#start] as number[]
  }

  #make(epoch: number): number[][] {
    return epochBatches(this.#lengths, this.#batchSize, this.#seed, epoch)
  }
}

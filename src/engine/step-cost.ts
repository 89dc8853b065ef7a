// What a step that only decodes costs by the positions it carries: learnt from how long steps take on this machine.

/** What the past counts for at each step: about the last 100 count. */
const memory = 0.99
/** A position more is taken to cost this share of a step with one row, until it was seen. */
const shareFirst = 0.05
/** How much that counts beside what was seen: as a spread of the positions, squared. */
const trust = 0.1
/** A step far above what was expected (another program had the processor) counts as so many times that at most. */
const outlier = 2

/** Least squares of ms = base + slope · positions over the steps of late. */
export class StepCost {
  #weight = 0
  #positions = 0
  #squares = 0
  #ms = 0
  #products = 0

  observe(positions: number, ms: number): void {
    const told = this.#weight === 0 ? ms : Math.min(ms, outlier * this.expected(positions))
    this.#weight = memory * this.#weight + 1
    this.#positions = memory * this.#positions + positions
    this.#squares = memory * this.#squares + positions * positions
    this.#ms = memory * this.#ms + told
    this.#products = memory * this.#products + positions * told
  }

  /** In ms; 0 before anything was seen. */
  expected(positions: number): number {
    if (this.#weight === 0) return 0
    const [meanPositions, meanMs] = [this.#positions / this.#weight, this.#ms / this.#weight]
    const spread = this.#squares / this.#weight - meanPositions ** 2
    const together = this.#products / this.#weight - meanPositions * meanMs
    const first = (shareFirst * meanMs) / (1 + shareFirst * (meanPositions - 1))
    // Never for nothing, and never more than in proportion.
    const slope = Math.min(
      Math.max(0, (together + trust * first) / (Math.max(0, spread) + trust)),
      meanMs / meanPositions,
    )
    return meanMs + slope * (positions - meanPositions)
  }
}

// How many prompt tokens a step may carry while rows decode: learnt from how long steps take on this machine.

/** A step with a piece takes at most so many times the time of one without. */
const stretch = 2.2
/** Weight of the newest step in the running means. */
const weight = 0.1
/** Smallest piece: below it a prompt would hardly get on. */
const tokensMin = 8
/** Before anything was measured. */
const tokensFirst = 32
/** Nobody is told to stay away for longer. */
const retryAfterSecondsMax = 60

/**
 * Running means of two measures: the time of a step that only decodes, and the time that each prompt token adds to one. A piece
 * is as large as fits into `stretch` times the former. A step far above the mean (another program had the processor) counts as
 * three times the mean at most.
 */
export class Pace {
  #decodeMs = 0
  #tokenMs = 0
  /** Between two ends of sequences while others wait. */
  #intervalMs = 0
  #endedMs: number | null = null

  /** Prompt tokens for the next step; `max` where nothing decodes and so nobody waits. */
  pieceTokens(decodingRows: number, max: number): number {
    if (decodingRows === 0) return max
    if (this.#decodeMs === 0 || this.#tokenMs === 0) return Math.min(max, tokensFirst)
    const room = (stretch - 1) * this.#decodeMs
    return Math.min(max, Math.max(tokensMin, Math.floor(room / this.#tokenMs)))
  }

  /** Tells what a step took. */
  observe(ms: number, decodingRows: number, promptTokens: number): void {
    if (promptTokens === 0) this.#decodeMs = follow(this.#decodeMs, ms)
    else if (decodingRows > 0 && this.#decodeMs > 0) {
      const added = Math.max(ms - this.#decodeMs, 0.02 * ms) / promptTokens
      this.#tokenMs = follow(this.#tokenMs, added)
    } else if (decodingRows === 0) this.#tokenMs = follow(this.#tokenMs, ms / promptTokens)
  }

  /** Tells that a sequence ended; `waiting`: another takes its row at once. */
  observeEnd(nowMs: number, waiting: boolean): void {
    if (this.#endedMs !== null) this.#intervalMs = follow(this.#intervalMs, nowMs - this.#endedMs)
    // While nobody waits the time between two ends says nothing of how fast they could be.
    this.#endedMs = waiting ? nowMs : null
  }

  /** How long until so many places in line are free, in whole seconds. */
  retryAfterSeconds(places: number): number {
    return Math.min(retryAfterSecondsMax, Math.max(1, Math.ceil((places * this.#intervalMs) / 1000)))
  }

  /** Milliseconds of a step that only decodes; 0 before the first. */
  get decodeMs(): number {
    return this.#decodeMs
  }
}

function follow(mean: number, value: number): number {
  return mean === 0 ? value : mean + weight * (Math.min(value, 3 * mean) - mean)
}

// How fast a run goes: tokens, examples and steps since it began, in this process.
import { lengthOf, type EncodedExample } from './encode.ts'
import type { TrainingProgress } from './options.ts'

export class Meter {
  readonly #startMs = performance.now()
  #steps = 0
  #tokens = 0
  #examples = 0

  /** `examples` of one optimizer step. */
  add(examples: readonly EncodedExample[]): void {
    this.#steps += 1
    this.#examples += examples.length
    for (const example of examples) this.#tokens += lengthOf(example)
  }

  rates(stepsLeft: number): Pick<TrainingProgress, 'tokensPerSecond' | 'examplesPerSecond' | 'etaMs'> {
    const elapsedMs = performance.now() - this.#startMs
    const perSecond = (count: number): number => (1000 * count) / elapsedMs
    return {
      tokensPerSecond: perSecond(this.#tokens),
      examplesPerSecond: perSecond(this.#examples),
      etaMs: (elapsedMs / this.#steps) * stepsLeft,
    }
  }
}

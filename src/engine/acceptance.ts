// What the logits of a step make of its sequences: tokens, ends of texts, beams that go on from others.
import type { BeamGroup } from './beam-group.ts'
import type { Continuation, Generation, TextGroup } from './generation.ts'
import type { Sampler } from './sampler.ts'
import type { Scheduler } from './scheduler.ts'

export class Acceptance {
  readonly #scheduler: Scheduler<Continuation>
  readonly #sampler: Sampler
  readonly #onFreed: () => void

  /** `onFreed` is told whenever rows were given back. */
  constructor(scheduler: Scheduler<Continuation>, sampler: Sampler, onFreed: () => void) {
    this.#scheduler = scheduler
    this.#sampler = sampler
    this.#onFreed = onFreed
  }

  /** `logits[i]` is [vocabulary], of sequence i. Answers the requests that failed, and why. */
  accept(sequences: readonly Continuation[], logits: readonly Float32Array[]): ReadonlyMap<Generation, unknown> {
    const failures = new Map<Generation, unknown>()
    const attempt = (generation: Generation, accept: () => void): void => {
      // Of those that have ended the rows are freed when the next turn begins.
      if (generation.events.ended || failures.has(generation)) return
      try {
        accept()
      } catch (error) {
        failures.set(generation, error)
      }
    }
    const beams = new Map<TextGroup, Map<Continuation, Float32Array>>()
    sequences.forEach((continuation, i) => {
      if (continuation.state !== 'decoding') return
      const { group, generation } = continuation
      const row = logits[i] as Float32Array
      if (group === null) attempt(generation, () => this.#acceptToken(continuation, row))
      else beams.set(group, (beams.get(group) ?? new Map()).set(continuation, row))
    })
    for (const [group, rows] of beams) {
      const { generation } = group.rows[0] as Continuation
      attempt(generation, () => this.#acceptBeams(group as BeamGroup, rows))
    }
    return failures
  }

  #acceptToken(continuation: Continuation, logits: Float32Array): void {
    const { generation } = continuation
    const token = this.#sampler.sample(continuation, logits)
    const { topLogprobs } = generation.parts
    const score = generation.scored ? this.#sampler.score(logits, token, topLogprobs ?? 0) : null
    if (continuation.accept(token, score)) this.#end(generation, [continuation])
  }

  #acceptBeams(group: BeamGroup, logits: ReadonlyMap<Continuation, Float32Array>): void {
    const [first] = group.rows as [Continuation]
    const inOrder = group.rows.map((row) => logits.get(row)).filter((row) => row !== undefined)
    const parents = group.step(inOrder, this.#sampler)
    if (parents === null) this.#end(first.generation, group.rows)
    else this.#scheduler.reorder(first, parents)
  }

  #end(generation: Generation, rows: readonly Continuation[]): void {
    for (const row of rows) this.#scheduler.finish(row)
    this.#onFreed()
    generation.settle()
  }
}

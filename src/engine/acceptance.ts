// What a step makes of its sequences: tokens, ends of texts, beams that go on from others.
import assert from 'node:assert/strict'
import type { ChosenToken, RowOutcome } from '../runtime/runtime.ts'
import type { BeamGroup } from './beam-group.ts'
import type { Continuation, Generation, TextGroup } from './generation.ts'
import type { Sampler, Score } from './sampler.ts'
import type { Scheduler } from './scheduler.ts'
import { type Batch, sequencesOf } from './sequence.ts'

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

  /** `outcomes[i]` are of sequence i, after each of its tokens or after the last. Answers the requests that failed, and why. */
  accept(batch: Batch<Continuation>, outcomes: readonly (readonly RowOutcome[])[]): ReadonlyMap<Generation, unknown> {
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
    const beams = new Map<TextGroup, Map<Continuation, RowOutcome>>()
    sequencesOf(batch).forEach((continuation, i) => {
      if (continuation.state !== 'decoding') return
      const { group, generation } = continuation
      const rows = outcomes[i] as readonly RowOutcome[]
      const drafts = batch.decode?.every ? (batch.decode.tokens[i]?.slice(1) ?? []) : []
      const [row] = rows as [RowOutcome]
      if (group === null) attempt(generation, () => this.#acceptTokens(continuation, drafts, rows))
      else beams.set(group, (beams.get(group) ?? new Map<Continuation, RowOutcome>()).set(continuation, row))
    })
    for (const [group, rows] of beams) {
      const { generation } = group.rows[0] as Continuation
      attempt(generation, () => this.#acceptBeams(group as BeamGroup, rows))
    }
    return failures
  }

  /** As many as come true of the drafts, and the token after them. */
  #acceptTokens(continuation: Continuation, drafts: readonly number[], outcomes: readonly RowOutcome[]): void {
    for (const [i, outcome] of outcomes.entries()) {
      const token = this.#acceptToken(continuation, outcome)
      if (continuation.ended) return
      if (i === drafts.length || token === drafts[i]) continue
      this.#scheduler.retract(continuation, drafts.length - i)
      return
    }
  }

  #acceptToken(continuation: Continuation, outcome: RowOutcome): number {
    const { generation } = continuation
    assert.ok(!('scores' in outcome), 'the best tokens of a row are for a search')
    const { token, score } =
      outcome instanceof Float32Array ? this.#choose(continuation, outcome) : taken(continuation, outcome)
    if (continuation.accept(token, generation.scored ? score : null)) this.#end(generation, [continuation])
    return token
  }

  #choose(continuation: Continuation, logits: Float32Array): Accepted {
    const { scored, parts } = continuation.generation
    const token = this.#sampler.sample(continuation, logits)
    return { token, score: scored ? this.#sampler.score(logits, token, parts.topLogprobs ?? 0) : null }
  }

  #acceptBeams(group: BeamGroup, outcomes: ReadonlyMap<Continuation, RowOutcome>): void {
    const [first] = group.rows as [Continuation]
    const inOrder = group.rows.map((row) => outcomes.get(row)).filter((row) => row !== undefined)
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

interface Accepted {
  readonly token: number
  /** null: nobody wants to know. */
  readonly score: Score | null
}

/** What the session has chosen, with the random number that was next. */
function taken({ decoding, random }: Continuation, { token, logprob, top = [] }: ChosenToken): Accepted {
  assert.ok(token >= 0, 'there is no finite logit')
  if (decoding.strategy === 'sample') random.next()
  return { token, score: { token, logprob, top } }
}

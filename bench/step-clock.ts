// Times decode steps of a full batch: in the model, beside it, and for the cache.
import { Random } from '../src/random/random.ts'
import type { DecodeSession, Feeds, Program } from '../src/runtime/runtime.ts'
import type { Tensor } from '../src/tensor/tensor.ts'
import { median, type Figures } from './machine.ts'
import { peakedRow } from './sampling.ts'

/** A program around another, that notes when it begins and ends. */
export class StepClock implements Program {
  readonly #program: Program
  readonly #rows: number
  /** What models of words answer, in the place of what seeded weights do: to choose among equals is another task. */
  readonly #logits: Float32Array
  #modelMs: number[] = []
  #besideMs: number[] = []
  #cacheMs: number[] = []
  #startMs = 0
  /** Of the last step, where it had a token for every row and nothing else. */
  #endMs: number | null = null

  constructor(program: Program, rows: number, vocabulary: number) {
    this.#program = program
    this.#rows = rows
    this.#logits = new Float32Array(rows * vocabulary)
    const random = new Random(3)
    for (let row = 0; row < rows; row++) this.#logits.set(peakedRow(random, vocabulary), row * vocabulary)
  }

  clear(): void {
    this.#modelMs = []
    this.#besideMs = []
    this.#cacheMs = []
    this.#endMs = null
  }

  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    this.#startMs = performance.now()
    const isFull = feeds['0.tokens']?.shape.join() === `${this.#rows},1` && feeds['rows']?.shape[0] === this.#rows
    if (isFull && this.#endMs !== null) this.#besideMs.push(this.#startMs - this.#endMs)
    const outputs = await this.#program.run(feeds)
    if (isFull) {
      this.#modelMs.push(performance.now() - this.#startMs)
      const logits = outputs['logits'] as Tensor
      ;(logits.data as Float32Array).set(this.#logits)
    }
    this.#endMs = isFull ? performance.now() : null
    return outputs
  }

  /** Notes what the session takes for itself: feeds, and what it writes into its cache. */
  watch<Session extends DecodeSession>(session: Session): Session {
    const step = session.step.bind(session)
    session.step = async (parts) => {
      const beginMs = performance.now()
      const logits = await step(parts)
      if (this.#endMs !== null) this.#cacheMs.push(this.#startMs - beginMs + performance.now() - this.#endMs)
      return logits
    }
    return session
  }

  dispose(): Promise<void> {
    return this.#program.dispose()
  }

  /** Medians. A step is the model's part and all that comes before the next. */
  figures(): Figures {
    const [modelMs, besideMs, cacheMs] = [median(this.#modelMs), median(this.#besideMs), median(this.#cacheMs)]
    const stepMs = modelMs + besideMs
    const percent = (ms: number): number => (100 * ms) / stepMs
    return { stepMs, besideMs, besidePercent: percent(besideMs), cacheMs, cachePercent: percent(cacheMs) }
  }
}

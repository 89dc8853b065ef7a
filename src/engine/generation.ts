// One request in flight: its continuations, and the events that tell the caller what became of them.
import { Random } from '../random/random.ts'
import type { Past } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { Detokenizer } from './detokenizer.ts'
import { EventStream } from './event-stream.ts'
import type { Decoding, FinishReason, GenerateEvent, Output, Usage } from './request.ts'
import type { Sampled } from './sampler.ts'
import type { Sequence, SequenceState } from './sequence.ts'
import type { Stopwatch } from './stopwatch.ts'
import { StopTexts } from './stop-texts.ts'

/** What all continuations of a request share. */
export interface GenerationParts {
  readonly tokenizer: Tokenizer
  readonly maxNewTokens: number
  readonly stop: readonly string[]
  readonly decoding: Decoding
  readonly logprobs: boolean
  readonly usage: Omit<Usage, 'outputTokens'>
}

/** One text being made: a sequence for the scheduler, tokens for the sampler, text for the caller. */
export class Continuation implements Sequence, Sampled {
  readonly generation: Generation
  readonly prompt: readonly number[]
  readonly past: Past | null
  readonly random: Random
  readonly output: number[] = []
  state: SequenceState = 'waiting'
  row = -1
  prefilled = 0
  readonly #index: number
  readonly #logprobs: number[] = []
  readonly #detokenizer: Detokenizer
  readonly #stopTexts: StopTexts
  #text = ''
  #finishReason: FinishReason | null = null

  constructor(generation: Generation, index: number, prompt: readonly number[], past: Past | null, seed: number) {
    this.generation = generation
    this.#index = index
    this.prompt = prompt
    this.past = past
    this.random = new Random(seed)
    this.#detokenizer = new Detokenizer(generation.parts.tokenizer)
    this.#stopTexts = new StopTexts(generation.parts.stop)
  }

  get decoding(): Decoding {
    return this.generation.parts.decoding
  }

  /** Takes the next token; true when it was the last. */
  accept(token: number, logprob: number | null): boolean {
    const { tokenizer, maxNewTokens } = this.generation.parts
    this.output.push(token)
    if (logprob !== null) this.#logprobs.push(logprob)
    if (token === tokenizer.endOfText) this.#finishReason = 'stop'
    else {
      this.#hand(this.#stopTexts.push(this.#detokenizer.push(token)))
      if (this.#stopTexts.found) this.#finishReason = 'stop'
      else if (this.output.length === maxNewTokens) this.#finishReason = 'length'
    }
    if (this.#finishReason === null) return false
    this.#hand(this.#stopTexts.push(this.#detokenizer.flush()))
    this.#hand(this.#stopTexts.flush())
    return true
  }

  result(): Output | null {
    if (this.#finishReason === null) return null
    const output = { text: this.#text, finishReason: this.#finishReason, tokens: this.output.length }
    return this.generation.parts.logprobs ? { ...output, logprobs: this.#logprobs } : output
  }

  #hand(text: string): void {
    if (text === '') return
    this.#text += text
    this.generation.events.push({ type: 'token', index: this.#index, text })
  }
}

export class Generation {
  readonly parts: GenerationParts
  readonly events = new EventStream<GenerateEvent>()
  continuations: readonly Continuation[] = []
  /** null: nobody wants to know. */
  stopwatch: Stopwatch | null = null

  constructor(parts: GenerationParts) {
    this.parts = parts
  }

  /** To be called after each continuation that ends; the last one makes the `done` event. */
  settle(): void {
    const outputs = this.continuations.map((continuation) => continuation.result())
    if (!outputs.every((output) => output !== null)) return
    const outputTokens = outputs.reduce((sum, { tokens }) => sum + tokens, 0)
    this.events.push({ type: 'done', outputs, usage: { ...this.parts.usage, outputTokens } })
    this.events.end()
  }
}

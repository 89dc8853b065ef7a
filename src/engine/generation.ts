// One request in flight: its continuations, and the events that tell the caller what became of them.
import { Random } from '../random/random.ts'
import type { Past, RowSource } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { bestTexts } from './best-of.ts'
import { Detokenizer } from './detokenizer.ts'
import { EventStream } from './event-stream.ts'
import { type ForcedTokens, type LogitRules, rulesOf } from './logit-rules.ts'
import type { Prompt } from './prompt.ts'
import type { Decoding, FinishReason, GenerateEvent, Output, TokenScore, Usage } from './request.ts'
import type { Sampled, Score } from './sampler.ts'
import type { Sequence, SequenceState } from './sequence.ts'
import type { Stopwatch } from './stopwatch.ts'
import { StopTexts } from './stop-texts.ts'

/** What all continuations of a request share. */
export interface GenerationParts {
  readonly prefixId: string | null
  /** Keys and values of the prefix in the decoder's own attention. */
  readonly past: Past | null
  readonly forced: Pick<ForcedTokens, 'first' | 'last'>
  readonly client: string
  readonly tokenizer: Tokenizer
  readonly maxNewTokens: number
  readonly minNewTokens: number
  readonly stop: readonly string[]
  readonly decoding: Decoding
  readonly logprobs: boolean
  /** null: not asked for. */
  readonly topLogprobs: number | null
  readonly usage: Omit<Usage, 'outputTokens'>
}

/** Rows that make some texts together: beams. */
export interface TextGroup {
  readonly rows: readonly Continuation[]
  /** null before the end. */
  readonly texts: readonly Continuation[] | null
}

/** One text being made: a sequence for the scheduler, tokens for the sampler, text for the caller. */
export class Continuation implements Sequence, Sampled {
  readonly generation: Generation
  readonly prompt: readonly number[]
  readonly past: Past | null
  declare readonly source?: RowSource
  readonly seedKey: string
  readonly prefixId: string | null
  readonly client: string
  readonly random: Random
  /** null: it is a text of its own. */
  readonly group: TextGroup | null
  readonly output: number[] = []
  state: SequenceState = 'waiting'
  row = -1
  prefilled = 0
  readonly #index: number
  readonly #scores: Score[] = []
  readonly #detokenizer: Detokenizer
  readonly #stopTexts: StopTexts
  #text = ''
  #finishReason: FinishReason | null = null

  constructor(
    generation: Generation,
    index: number,
    { tokens, source, key }: Prompt,
    seed: number,
    group: TextGroup | null = null,
  ) {
    const { prefixId, past, client } = generation.parts
    this.generation = generation
    this.#index = index
    this.prompt = tokens
    this.past = past
    if (source !== null) this.source = source
    this.seedKey = key
    this.prefixId = prefixId
    this.client = client
    this.random = new Random(seed)
    this.group = group
    this.#detokenizer = new Detokenizer(generation.parts.tokenizer)
    this.#stopTexts = new StopTexts(generation.parts.stop)
  }

  get decoding(): Decoding {
    return this.generation.parts.decoding
  }

  get rules(): LogitRules | null {
    return this.generation.rules
  }

  /** Of the tokens made, in nats; `generation.scored` says whether there are any. */
  get meanLogprob(): number {
    return this.#scores.reduce((sum, { logprob }) => sum + logprob, 0) / this.#scores.length
  }

  /** Takes the next token, with its score where the generation is scored; true when it was the last. */
  accept(token: number, score: Score | null): boolean {
    const { tokenizer, maxNewTokens } = this.generation.parts
    this.output.push(token)
    if (score !== null) this.#scores.push(score)
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

  get ended(): boolean {
    return this.#finishReason !== null
  }

  /** null before the end. */
  result(): Output | null {
    if (this.#finishReason === null) return null
    const { logprobs, topLogprobs } = this.generation.parts
    return {
      text: this.#text,
      finishReason: this.#finishReason,
      tokens: this.output.length,
      ...(logprobs && { logprobs: this.#scores.map(({ logprob }) => logprob) }),
      ...(topLogprobs !== null && { topLogprobs: this.#scores.map((score) => this.#withTexts(score)) }),
    }
  }

  #hand(text: string): void {
    if (text === '') return
    this.#text += text
    if (this.generation.streamed) this.generation.events.push({ type: 'token', index: this.#index, text })
  }

  #withTexts({ token, logprob, top }: Score): TokenScore {
    const { tokenizer } = this.generation.parts
    const textOf = (id: number): string => tokenizer.special.get(id) ?? tokenizer.decode([id])
    const alternatives = top.map((each) => ({ id: each.token, text: textOf(each.token), logprob: each.logprob }))
    return { id: token, text: textOf(token), logprob, top: alternatives }
  }
}

export class Generation {
  readonly parts: GenerationParts
  readonly events = new EventStream<GenerateEvent>()
  readonly rules: LogitRules | null
  /** In the order of the inputs, `bestOf` for each; of beams none, and a group for each input. */
  texts: readonly Continuation[] = []
  groups: readonly TextGroup[] = []
  /** null: nobody wants to know. */
  stopwatch: Stopwatch | null = null

  /** Throws `invalid_request` where the request names tokens that there are not. */
  constructor(parts: GenerationParts) {
    this.parts = parts
    const { decoding, minNewTokens, maxNewTokens, tokenizer, forced } = parts
    this.rules = rulesOf(decoding, minNewTokens, tokenizer, { ...forced, maxNewTokens })
  }

  /** Whether tokens come with their scores. */
  get scored(): boolean {
    return this.parts.logprobs || this.parts.topLogprobs !== null || !this.streamed
  }

  /** Whether text is handed out as it comes: not where some texts are made for nothing. */
  get streamed(): boolean {
    const { strategy, bestOf, n } = this.parts.decoding
    return strategy !== 'beam' && bestOf === n
  }

  /** All that want a row. */
  get continuations(): readonly Continuation[] {
    return [...this.texts, ...this.groups.flatMap(({ rows }) => rows)]
  }

  /** To be called after each continuation that ends; the last one makes the `done` event. */
  settle(): void {
    const { usage, decoding } = this.parts
    if (this.texts.some(({ ended }) => !ended) || this.groups.some(({ texts }) => texts === null)) return
    const outputTokens = this.continuations.reduce((sum, { output }) => sum + output.length, 0)
    const chosen = this.texts.length === 0 || this.streamed ? this.texts : bestTexts(this.texts, decoding)
    const answered = [...chosen, ...this.groups.flatMap(({ texts }) => texts ?? [])]
    const outputs = answered.map((continuation) => continuation.result() as Output)
    this.events.push({ type: 'done', outputs, usage: { ...usage, outputTokens } })
    this.events.end()
  }
}

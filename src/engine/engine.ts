// Inputs to texts, many at once: the decode loop that all requests share.
import { randomInt } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServiceError } from '../errors/errors.ts'
import { forkSeed } from '../random/random.ts'
import type { DecodeSession, RowOutcome } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { abortable, cancelledError } from './cancellation.ts'
import { Acceptance } from './acceptance.ts'
import { BeamGroup } from './beam-group.ts'
import { checkRequest } from './check-request.ts'
import type { EngineLimits } from './limits.ts'
import { withinDeadline } from './deadline.ts'
import { Drafter } from './drafter.ts'
import { Continuation, Generation } from './generation.ts'
import { Pace } from './pace.ts'
import { noPasts, pastsOf } from './past.ts'
import { decoderAlone, type PlayedModel } from './played.ts'
import { type Observer, StepWatch } from './observer.ts'
import { type Lease, PrefixPool } from './prefix-pool.ts'
import { encodePrompts } from './prompt.ts'
import type { GenerateEvent, GenerateRequest, PrefixLoader } from './request.ts'
import { wantedOf } from './row-choice.ts'
import { Runner } from './runner.ts'
import { Sampler } from './sampler.ts'
import { Scheduler } from './scheduler.ts'
import { type Batch, positionsOf, sequencesOf, tokensRead } from './sequence.ts'
import type { EngineState } from './step-figures.ts'
import { type Account, Stopwatch } from './stopwatch.ts'

export interface EngineParts {
  /** The engine uses it alone and does not dispose of it. */
  readonly session: DecodeSession
  readonly tokenizer: Tokenizer
  readonly loadPrefix: PrefixLoader
  readonly limits: EngineLimits
  /** Absent: a decoder alone, which goes on from its prompt. */
  readonly model?: PlayedModel
  /** Told of each step. */
  readonly observer?: Observer
}

export class Engine {
  readonly #parts: EngineParts
  readonly #scheduler: Scheduler<Continuation>
  readonly #runner: Runner
  readonly #acceptance: Acceptance
  readonly #pool: PrefixPool
  readonly #pace = new Pace()
  readonly #drafter: Drafter
  /** Arrivals and departures wait here for the turn to begin; none happens in the middle of one. */
  readonly #inbox: (() => void)[] = []
  readonly #live = new Set<Generation>()
  /** Places in line promised to requests that are still on their way. */
  #reserved = 0
  #loop: Promise<void> | null = null
  #closed = false

  constructor(parts: EngineParts) {
    const { session, loadPrefix, limits } = parts
    this.#parts = parts
    this.#scheduler = new Scheduler({ ...limits, rowsMax: session.layout.rowsMax })
    this.#runner = new Runner(session)
    this.#acceptance = new Acceptance(this.#scheduler, new Sampler(session.vocabulary), () =>
      this.#pace.observeEnd(performance.now(), this.#scheduler.waiting > 0),
    )
    this.#drafter = new Drafter(session.tellsEvery ? limits.draftTokensMax : 0)
    this.#pool = new PrefixPool(loadPrefix, limits.prefixBytesMax)
  }

  /** Sequences in line and sequences that hold a row. */
  get load(): { readonly waiting: number; readonly running: number } {
    return { waiting: this.#scheduler.waiting + this.#reserved, running: this.#scheduler.running }
  }

  /** For figures: how full it is. */
  get state(): EngineState {
    const { lengths, layout } = this.#parts.session
    const { load } = this
    return {
      ...load,
      // Rows that were left keep their lengths until the next step: at rest there is none.
      cachePositions: load.running === 0 ? 0 : lengths.reduce((sum, length) => sum + length, 0),
      cachePositionsMax: layout.rowsMax * layout.positionsMax,
      prefixes: this.#pool.size,
      prefixBytes: this.#pool.bytes,
      evictions: this.#pool.evictions,
      reusedTokens: this.#scheduler.reusedTokens,
    }
  }

  /**
   * Whatever is wrong with the request is thrown by the first `next()`, before any event. Leaving early frees its rows.
   * `onEnd` is called once, however it ends.
   */
  async *generate(
    request: GenerateRequest,
    signal: AbortSignal,
    onEnd: (account: Account) => void = () => {},
  ): AsyncGenerator<GenerateEvent, void> {
    const stopwatch = new Stopwatch()
    try {
      const { deadlineMs } = request
      const make = (inner: AbortSignal): AsyncGenerator<GenerateEvent, void> =>
        this.#generate(request, inner, stopwatch)
      yield* deadlineMs === undefined ? make(signal) : withinDeadline(deadlineMs, signal, make)
    } finally {
      onEnd(stopwatch.ended())
    }
  }

  async *#generate(
    request: GenerateRequest,
    signal: AbortSignal,
    stopwatch: Stopwatch,
  ): AsyncGenerator<GenerateEvent, void> {
    checkRequest(request)
    if (signal.aborted) throw cancelledError()
    const { strategy, bestOf, beams } = request.decoding
    const { rowsMax } = this.#parts.session.layout
    if (strategy === 'beam' && beams > rowsMax) throw tooManyBeams(beams, rowsMax)
    // Beams of an input stand in line as one.
    const places = request.inputs.length * (strategy === 'beam' ? 1 : bestOf)
    this.#reserve(places)
    let lease: Lease | null = null
    let generation: Generation | null = null
    const abort = (): void => {
      generation?.events.fail(cancelledError())
      if (generation !== null) this.#leave(generation)
    }
    try {
      try {
        if (request.prefixId !== null) {
          stopwatch.leasing(this.#pool.has(request.prefixId))
          lease = await this.#lease(request.prefixId, signal)
          stopwatch.leased()
        }
        generation = await this.#makeGeneration(request, lease)
        generation.stopwatch = stopwatch
        if (signal.aborted) throw cancelledError()
        if (this.#closed) throw stoppingError()
      } finally {
        this.#reserved -= places
      }
      signal.addEventListener('abort', abort, { once: true })
      stopwatch.queued(generation.parts.usage.inputTokens)
      this.#enter(generation)
      yield* generation.events.read()
    } finally {
      signal.removeEventListener('abort', abort)
      if (generation !== null) this.#leave(generation)
      lease?.release()
    }
  }

  /** Ends all requests with `cancelled`; the step in progress is waited for. */
  async close(): Promise<void> {
    this.#closed = true
    for (const generation of this.#live) generation.events.fail(stoppingError())
    await this.#loop
  }

  #reserve(places: number): void {
    if (this.#closed) throw stoppingError()
    const { waitingMax } = this.#parts.limits
    if (places > waitingMax) {
      throw new ServiceError(
        'invalid_request',
        `the request makes ${places} texts (inputs × bestOf, which is n unless given), and at most ${waitingMax} can wait`,
        { texts: places, waitingMax },
      )
    }
    const taken = this.#scheduler.waiting + this.#reserved
    if (taken + places > waitingMax) {
      throw new ServiceError(
        'overloaded',
        `the waiting line has ${taken} of ${waitingMax} places taken, the request needs ${places}`,
        { retryAfterSeconds: this.#pace.retryAfterSeconds(taken + places - waitingMax) },
      )
    }
    this.#reserved += places
  }

  async #lease(prefixId: string, signal: AbortSignal): Promise<Lease> {
    const leasing = this.#pool.lease(prefixId)
    try {
      return await abortable(leasing, signal)
    } catch (error) {
      // Whoever left while it was loading gives it back when it comes.
      leasing.then(
        (lease) => lease.release(),
        () => {},
      )
      throw error
    }
  }

  async #makeGeneration(request: GenerateRequest, lease: Lease | null): Promise<Generation> {
    const { tokenizer, session } = this.#parts
    const { layout } = session
    const model = this.#parts.model ?? decoderAlone(layout)
    const { framing } = model
    const pasts = lease === null ? noPasts : pastsOf(request.prefixId ?? '', lease.prefix, layout, model)
    const past = pasts.decoder_self
    const prefixLength = lease?.prefix.header.prefixLength ?? 0
    const template = request.template ?? lease?.prefix.header.template ?? framing.template
    const { positionsMax } = layout
    const room = { template, framing, pasts, prefixLength, positionsMax, sourceMax: model.sourceMax }
    const prompts = await encodePrompts(request, room, tokenizer)
    const { maxNewTokens, minNewTokens = 0, stop, decoding, logprobs, topLogprobs = null } = request
    const usage = {
      prefixTokens: prefixLength * prompts.length,
      inputTokens: prompts.reduce((sum, { tokens, source }) => sum + (source?.tokens ?? tokens).length, 0),
    }
    const { prefixId, client = '' } = request
    const forced = { first: framing.forcedFirst, last: framing.forcedLast }
    const shared = { tokenizer, prefixId, past, forced, client, usage }
    const asked = { maxNewTokens, minNewTokens, stop, decoding, logprobs, topLogprobs }
    const generation = new Generation({ ...shared, ...asked })
    if (decoding.strategy === 'beam') {
      generation.groups = prompts.map((prompt, input) => new BeamGroup(generation, input, prompt))
      return generation
    }
    const seed = request.seed ?? randomInt(2 ** 48 - 1)
    generation.texts = prompts.flatMap((prompt, input) =>
      Array.from({ length: decoding.bestOf }, (_, sample) => {
        const own = forkSeed(seed, input, sample)
        return new Continuation(generation, input * decoding.bestOf + sample, prompt, own)
      }),
    )
    return generation
  }

  #enter(generation: Generation): void {
    this.#live.add(generation)
    // The places are held until the turn begins, as the line may be looked at before.
    const { texts, groups } = generation
    const places = texts.length + groups.length
    this.#reserved += places
    this.#inbox.push(() => {
      this.#reserved -= places
      if (generation.events.ended) return
      const entered = this.#scheduler.add(texts) && groups.every(({ rows }) => this.#scheduler.addGroup(rows))
      if (!entered) throw new Error('places in line were promised and are not there')
    })
    this.#wake()
  }

  #leave(generation: Generation): void {
    generation.events.end()
    if (!this.#live.delete(generation)) return
    this.#inbox.push(() => this.#free(generation))
    this.#wake()
  }

  #wake(): void {
    this.#loop ??= this.#run().finally(() => {
      this.#loop = null
      // Something may have come between the last look at the inbox and now.
      if (this.#inbox.length > 0) this.#wake()
    })
  }

  /** Runs while there is work; what it throws is a bug, and ends the thread. The event loop turns between steps, so that requests and cancellations arrive. */
  async #run(): Promise<void> {
    for (;;) {
      await nextTurn()
      for (const arrive of this.#inbox.splice(0)) arrive()
      const { prefillTokensMax } = this.#parts.limits
      const pieceTokens = this.#pace.pieceTokens(this.#scheduler.decoding, prefillTokensMax)
      const batch = this.#closed ? null : this.#scheduler.next(pieceTokens, (rows) => this.#drafter.propose(rows))
      if (batch === null) return
      await this.#step(batch)
    }
  }

  async #step(batch: Batch<Continuation>): Promise<void> {
    const watch = new StepWatch([batch.decode, batch.prefill].filter((part) => part !== null))
    try {
      this.#runner.arrange(batch)
    } catch (error) {
      // Rows may be half moved: everything that holds one is lost, and rows are seeded anew for the next.
      for (const generation of this.#live) {
        if (generation.continuations.some(({ row }) => row >= 0)) this.#fail(generation, batch, error)
      }
      this.#scheduler.distrust()
      return
    }
    const startMs = performance.now()
    let outcomes: RowOutcome[][]
    try {
      outcomes = await this.#runner.run(batch, wantedOf)
    } catch (error) {
      for (const { generation } of sequencesOf(batch)) this.#fail(generation, batch, error)
      this.#scheduler.distrust()
      return
    }
    const ms = performance.now() - startMs
    this.#pace.observe(ms, batch.decode?.sequences.length ?? 0, tokensRead(batch))
    if (batch.decode !== null && batch.prefill === null) this.#drafter.observe(positionsOf(batch.decode), ms)
    this.#scheduler.advance(batch)
    const failures = this.#acceptance.accept(batch, outcomes)
    this.#drafter.learn(sequencesOf(batch))
    for (const [generation, error] of failures) this.#fail(generation, batch, error)
    watch.end(this.#parts.observer ?? null)
  }

  #fail(generation: Generation, batch: Batch<Continuation>, cause: unknown): void {
    const message = `the model failed in a step of ${sequencesOf(batch).length} rows: ${cause instanceof Error ? cause.message : String(cause)}`
    generation.events.fail(new ServiceError('engine_failed', message, {}, { cause }))
    this.#free(generation)
  }

  #free(generation: Generation): void {
    for (const continuation of generation.continuations) this.#scheduler.finish(continuation)
  }
}

function tooManyBeams(beams: number, rowsMax: number): ServiceError {
  const message = `decoding.beams is ${beams}, and the engine has ${rowsMax} rows for all requests together`
  return new ServiceError('invalid_request', message, { beams, rowsMax })
}

function stoppingError(): ServiceError {
  return new ServiceError('cancelled', 'the service is stopping')
}

// The engine as routes ask it: whatever they generate is counted, told in the log line of their request, and traced.
import type { FastifyRequest } from 'fastify'
import type { Account } from '../engine/stopwatch.ts'
import type { DoneEvent, GenerateEvent, GenerateRequest } from '../engine/request.ts'
import { ServiceError } from '../errors/errors.ts'
import type { Attributes, Span } from '../tracing/tracing.ts'
import type { Metrics } from './metrics.ts'
import type { EngineFront } from './parts.ts'
import type { Outcome } from './prefix-figures.ts'
import type { Observations } from './request-log.ts'

export interface GenerationsParts {
  readonly engine: EngineFront
  readonly metrics: Metrics
  readonly observations: Observations
  /** Name of the frozen model. */
  readonly model: string
}

export class Generations {
  readonly #parts: GenerationsParts

  constructor(parts: GenerationsParts) {
    this.#parts = parts
  }

  /** As the engine's own, for the HTTP request that it is done for. */
  async *generate(
    request: FastifyRequest,
    asked: GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent, void> {
    const { engine, observations } = this.#parts
    const { story, span } = observations.of(request)
    const child = span.child(`text_completion ${asked.prefixId ?? this.#parts.model}`, {
      attributes: this.#attributesOf(asked),
    })
    const ending = new Ending((account, outcome, error, answer) => {
      const inputTokens = answer?.usage.inputTokens ?? account?.inputTokens ?? 0
      const outputTokens = answer?.usage.outputTokens ?? account?.outputTokens ?? 0
      const ended = { prefixId: asked.prefixId, outcome, account, inputTokens, outputTokens }
      this.#parts.metrics.countGeneration(ended)
      story.end(ended)
      child.set({
        'gen_ai.usage.input_tokens': inputTokens,
        'gen_ai.usage.output_tokens': outputTokens,
        ...(answer !== null && {
          'gen_ai.response.finish_reasons': answer.outputs.map(({ finishReason }) => finishReason),
        }),
      })
      if (account !== null) traceAccount(child, account)
      child.end({ ...(account !== null && { endMs: account.endedMs }), ...(error !== null && { error }) })
    })
    story.begin()
    let done: DoneEvent | null = null
    try {
      for await (const event of engine.generate(asked, signal, (account) => ending.tell(account))) {
        // The last one is held back for the account, which is closed behind it.
        if (event.type === 'done') done = event
        else yield event
      }
      if (done === null) return
      // Before it is handed on, as whoever has it may read no further.
      ending.come('done', null, done)
      yield done
    } catch (error) {
      ending.come(outcomeOf(error), error instanceof ServiceError ? error.code : 'internal', null)
      throw error
    } finally {
      ending.come('cancelled', 'cancelled', null)
    }
  }

  #attributesOf({ prefixId, inputs, maxNewTokens, seed, decoding }: GenerateRequest): Attributes {
    const { strategy, temperature, topK, topP, n } = decoding
    return {
      'gen_ai.operation.name': 'text_completion',
      'gen_ai.provider.name': 'preamble',
      'gen_ai.request.model': prefixId ?? this.#parts.model,
      'gen_ai.response.model': prefixId ?? this.#parts.model,
      'gen_ai.request.max_tokens': maxNewTokens,
      'gen_ai.request.choice.count': n,
      ...(seed !== null && { 'gen_ai.request.seed': seed }),
      ...(strategy === 'sample' && {
        'gen_ai.request.temperature': temperature,
        'gen_ai.request.top_k': topK,
        'gen_ai.request.top_p': topP,
      }),
      'preamble.model': this.#parts.model,
      'preamble.decoding.strategy': strategy,
      'preamble.inputs': inputs.length,
      ...(prefixId !== null && { 'preamble.prefix.id': prefixId }),
    }
  }
}

type End = readonly [outcome: Outcome, error: string | null, done: DoneEvent | null]
type Close = (account: Account | null, ...end: End) => void

/** Brings the end of a generation and its account together: of one that was left, the account comes later. */
class Ending {
  readonly #close: Close
  #account: { readonly value: Account | null } | null = null
  #end: End | null = null

  constructor(close: Close) {
    this.#close = close
  }

  tell(account: Account | null): void {
    if (this.#account !== null) return
    this.#account = { value: account }
    if (this.#end !== null) this.#close(account, ...this.#end)
  }

  /** The first word counts. */
  come(...end: End): void {
    if (this.#end !== null) return
    this.#end = end
    if (this.#account !== null) this.#close(this.#account.value, ...end)
    // Of one that was left the account is on its way.
    else if (end[0] !== 'cancelled') this.tell(null)
  }
}

function outcomeOf(error: unknown): Outcome {
  if (!(error instanceof ServiceError) || error.code === 'engine_failed') return 'failed'
  return error.code === 'cancelled' ? 'cancelled' : 'refused'
}

function traceAccount(span: Span, { lease, queuedMs, startedMs, firstTokenMs, endedMs, ...tokens }: Account): void {
  if (lease !== null) {
    const loading = span.child('prefix_load', {
      startMs: lease.startMs,
      attributes: { 'preamble.prefix.pool_hit': lease.hit },
    })
    loading.end({ endMs: lease.endMs })
  }
  if (queuedMs !== null) span.child('queue', { startMs: queuedMs }).end({ endMs: startedMs ?? endedMs })
  if (startedMs !== null) {
    const attributes = { 'gen_ai.usage.input_tokens': tokens.inputTokens }
    span.child('prefill', { startMs: startedMs, attributes }).end({ endMs: firstTokenMs ?? endedMs })
  }
  if (firstTokenMs !== null) {
    const attributes = { 'gen_ai.usage.output_tokens': tokens.outputTokens }
    span.child('decode', { startMs: firstTokenMs, attributes }).end({ endMs: endedMs })
  }
}

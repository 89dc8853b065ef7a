// One line in the log, one count and one span for every request, whichever way it ends, and no text of its user in any.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { noTracing, nowMs, type Span, type Tracing } from '../tracing/tracing.ts'
import type { Metrics } from './metrics.ts'
import { RequestStory } from './request-story.ts'

export interface Observation {
  readonly story: RequestStory
  readonly span: Span
}

/** What is known of the requests under way. */
export class Observations {
  readonly #tracing: Tracing
  readonly #of = new WeakMap<FastifyRequest, Observation>()

  constructor(tracing: Tracing = noTracing) {
    this.#tracing = tracing
  }

  begin(request: FastifyRequest): Observation {
    const { method, headers, protocol } = request
    const { url: route } = request.routeOptions
    const { traceparent, tracestate } = headers
    const span = this.#tracing.start(
      route === undefined ? method : `${method} ${route}`,
      { traceparent, tracestate },
      {
        kind: 'server',
        // The path is left out: it has names in it that users chose.
        attributes: {
          'http.request.method': method,
          'http.route': route,
          'url.scheme': protocol,
          'preamble.request.id': request.id,
        },
      },
    )
    const observation = { story: new RequestStory(), span }
    this.#of.set(request, observation)
    return observation
  }

  of(request: FastifyRequest): Observation {
    return this.#of.get(request) ?? this.begin(request)
  }

  /** For a job that the request asks for: what makes its spans children of this one. Nothing where nobody traces. */
  traceOf(request: FastifyRequest): { readonly traceparent?: string } {
    const { traceparent } = this.of(request).span
    return traceparent === null ? {} : { traceparent }
  }
}

export function observeRequests(app: FastifyInstance, metrics: Metrics, observations: Observations): void {
  app.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    void reply.header('x-request-id', request.id)
    const startMs = performance.now()
    const { story, span } = observations.begin(request)
    let told = false
    const tell = (status: number | 'aborted'): void => {
      if (told) return
      told = true
      const { method } = request
      // The route's pattern, not the path: few values, and nothing that a user wrote.
      const route = request.routeOptions.url ?? 'none'
      const ms = Math.round((performance.now() - startMs) * 10) / 10
      const endMs = nowMs()
      metrics.countRequest(method, route, status, ms)
      // What a client that left had made so far is known a step later.
      story.whenTold(() => {
        const { traceId } = span
        request.log.info({ method, route, status, ms, ...story.fields(), ...(traceId && { traceId }) }, 'request')
        endSpan(span, status, endMs)
      })
    }
    reply.raw.once('finish', () => tell(reply.raw.statusCode))
    reply.raw.once('close', () => tell('aborted'))
    done()
  })
}

function endSpan(span: Span, status: number | 'aborted', endMs: number): void {
  if (status === 'aborted') span.end({ endMs, error: 'client_left' })
  else {
    span.set({ 'http.response.status_code': status })
    span.end({ endMs, ...(status >= 500 && { error: String(status) }) })
  }
}

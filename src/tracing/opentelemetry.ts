// Spans by OpenTelemetry's SDK, sent over OTLP/HTTP; loaded only where a collector is configured.
import {
  type Context,
  diag,
  DiagLogLevel,
  type Span as SdkSpan,
  SpanKind,
  SpanStatusCode,
  ROOT_CONTEXT,
  trace,
  type Tracer,
  type Attributes as SdkAttributes,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'
import {
  nowMs,
  type Attributes,
  type Span,
  type SpanEnd,
  type SpanOptions,
  type TraceHeaders,
  type Tracing,
} from './tracing.ts'

/** What has not been sent by then is lost: a collector that is away holds up no stop of the service. */
const flushMsMax = 3_000

const kinds = { server: SpanKind.SERVER, consumer: SpanKind.CONSUMER, internal: SpanKind.INTERNAL } as const
const propagator = new W3CTraceContextPropagator()

/** Endpoint, headers, time limits, sampler, batches and resource are read from the `OTEL_` variables by the SDK itself. */
export function startTracing(onProblem: (message: string) => void): Tracing {
  const quiet = (): void => {}
  diag.setLogger(
    { error: onProblem, warn: onProblem, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  )
  const resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'preamble' }))
    .merge(detectResources({ detectors: [envDetector] }))
  const provider = new BasicTracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  })
  const tracer = provider.getTracer('preamble')
  return {
    start: (name, from, options = {}) => startSpan(tracer, contextOf(from), name, options),
    flush: () => withinLimit(provider.forceFlush()),
    close: () => withinLimit(provider.shutdown()),
  }
}

/** What is not well-formed counts as not there, as the standard wants it. */
function contextOf({ traceparent, tracestate }: TraceHeaders): Context {
  return propagator.extract(ROOT_CONTEXT, { traceparent, tracestate }, getter)
}

type Carrier = Record<string, string | string[] | undefined>
const getter = {
  get: (carrier: Carrier, key: string): string | string[] | undefined => carrier[key],
  keys: (carrier: Carrier): string[] => Object.keys(carrier),
}

function startSpan(tracer: Tracer, parent: Context, name: string, options: SpanOptions): Span {
  const { kind = 'internal', attributes = {}, startMs = nowMs() } = options
  const span = tracer.startSpan(
    name,
    { kind: kinds[kind], attributes: { ...attributes } as SdkAttributes, startTime: startMs },
    parent,
  )
  const context = trace.setSpan(parent, span)
  return {
    traceparent: traceparentOf(context),
    traceId: span.spanContext().traceId,
    set: (more: Attributes) => void span.setAttributes({ ...more } as SdkAttributes),
    child: (childName, childOptions = {}) => startSpan(tracer, context, childName, childOptions),
    end: (end) => endSpan(span, end),
  }
}

function endSpan(span: SdkSpan, { endMs = nowMs(), error }: SpanEnd = {}): void {
  if (error !== undefined) span.setAttribute('error.type', error).setStatus({ code: SpanStatusCode.ERROR })
  span.end(endMs)
}

function traceparentOf(context: Context): string | null {
  const carrier: { traceparent?: string } = {}
  propagator.inject(context, carrier, { set: (into, key, value) => Object.assign(into, { [key]: value }) })
  return carrier.traceparent ?? null
}

async function withinLimit(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, flushMsMax)))
  // What went wrong was told by the exporter.
  await Promise.race([work.catch(() => {}), late])
  clearTimeout(timer)
}

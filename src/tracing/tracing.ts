// Spans of the work, for OpenTelemetry: made only where a collector is configured, and costing nothing elsewhere.
import { ServiceError } from '../errors/errors.ts'

/** Numbers, ids and words of ours: never a text of a user. */
export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

export interface SpanOptions {
  readonly kind?: 'server' | 'consumer' | 'internal'
  readonly attributes?: Attributes
  /** Milliseconds since 1970; now where it is left out. */
  readonly startMs?: number
}

export interface SpanEnd {
  /** Milliseconds since 1970; now where it is left out. */
  readonly endMs?: number
  /** Where it went wrong: a code, as messages may quote what a user wrote. */
  readonly error?: string
}

export interface Span {
  /** As in the header `traceparent` (W3C Trace Context), for a child in another process. */
  readonly traceparent: string | null
  readonly traceId: string | null
  set(attributes: Attributes): void
  child(name: string, options?: SpanOptions): Span
  end(end?: SpanEnd): void
}

/**
 * Milliseconds since 1970, with fractions; it never goes back. One clock for all that is told: OpenTelemetry's own would round
 * some times to milliseconds, and children would begin before their elders.
 */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** The two headers of W3C Trace Context. */
export interface TraceHeaders {
  readonly traceparent?: string | string[] | undefined
  readonly tracestate?: string | string[] | undefined
}

export interface Tracing {
  /** A span without a parent in this process; `from` may name one elsewhere. */
  start(name: string, from: TraceHeaders, options?: SpanOptions): Span
  /** Sends what has ended so far. Never throws, and takes a few seconds at most. */
  flush(): Promise<void>
  close(): Promise<void>
}

const noSpan: Span = {
  traceparent: null,
  traceId: null,
  set: () => {},
  child: () => noSpan,
  end: () => {},
}

export const noTracing: Tracing = {
  start: () => noSpan,
  flush: () => Promise.resolve(),
  close: () => Promise.resolve(),
}

type Environment = Readonly<Record<string, string | undefined>>

/**
 * By OpenTelemetry's own variables: on where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set,
 * unless `OTEL_SDK_DISABLED` is true or `OTEL_TRACES_EXPORTER` is none. Its packages are loaded only then. `onProblem` hears
 * why spans could not be sent. Throws `config_invalid` for what this service cannot send to.
 */
export async function openTracing(env: Environment, onProblem: (message: string) => void): Promise<Tracing> {
  if (!isWanted(env)) return noTracing
  const { startTracing } = await import('./opentelemetry.ts')
  return startTracing(onProblem)
}

function isWanted(env: Environment): boolean {
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_ENDPOINT'] || null
  const exporter = env['OTEL_TRACES_EXPORTER'] || 'otlp'
  if (endpoint === null || env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || exporter === 'none') return false
  allow('OTEL_TRACES_EXPORTER', exporter, ['otlp', 'none'])
  const protocol = env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] || env['OTEL_EXPORTER_OTLP_PROTOCOL'] || 'http/json'
  allow('OTEL_EXPORTER_OTLP_PROTOCOL', protocol, ['http/json'])
  // It may hold a password, and is not shown.
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint))
    refuse('OTEL_EXPORTER_OTLP_ENDPOINT', null, 'an http:// or https:// address')
  return true
}

function allow(variable: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) refuse(variable, value, allowed.join(', '))
}

function refuse(variable: string, value: string | null, allowed: string): never {
  const shown = value === null ? '' : `=${JSON.stringify(value)}`
  const message = `${variable}${shown} is not allowed; allowed: ${allowed}`
  throw new ServiceError('config_invalid', message, { problems: [{ variable, value, allowed }] })
}

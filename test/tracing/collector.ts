// A collector of spans on a port of its own: takes what OTLP/HTTP sends it as JSON, and keeps it for tests to look at.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

type Value = {
  readonly stringValue?: string
  readonly intValue?: number | string
  readonly doubleValue?: number
  readonly boolValue?: boolean
  readonly arrayValue?: { readonly values?: readonly Value[] }
}
interface RawSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly { readonly key: string; readonly value: Value }[]
  readonly status: { readonly code?: number }
}
interface RawBody {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: RawSpan['attributes'] }
    readonly scopeSpans: readonly { readonly spans: readonly RawSpan[] }[]
  }[]
}

export interface CollectedSpan extends Omit<RawSpan, 'attributes'> {
  readonly service: unknown
  readonly attributes: Readonly<Record<string, unknown>>
  readonly startNs: bigint
  readonly endNs: bigint
}

export interface Collector {
  readonly address: string
  readonly spans: CollectedSpan[]
  /** Bodies as they came. */
  readonly texts: string[]
  /** The first span of this name; waits for it, and fails where it does not come. */
  named(name: string): Promise<CollectedSpan>
  close(): void
}

const patienceMs = 20_000

export async function startCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = []
  const texts: string[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString()
      texts.push(text)
      if (request.url === '/v1/traces') spans.push(...spansOf(JSON.parse(text) as RawBody))
      response.setHeader('content-type', 'application/json')
      response.end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    address: `http://127.0.0.1:${port}`,
    spans,
    texts,
    named: async (name) => {
      const endMs = performance.now() + patienceMs
      for (;;) {
        const span = spans.find((each) => each.name === name)
        if (span !== undefined) return span
        if (performance.now() > endMs) throw new Error(`no span ${name} among ${spans.map((each) => each.name).join()}`)
        await sleep(20)
      }
    },
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

function spansOf({ resourceSpans }: RawBody): CollectedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = plain(resource.attributes)['service.name']
    return scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        ...span,
        service,
        attributes: plain(span.attributes),
        startNs: BigInt(span.startTimeUnixNano),
        endNs: BigInt(span.endTimeUnixNano),
      })),
    )
  })
}

function plain(attributes: RawSpan['attributes']): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]))
}

function plainValue({ stringValue, intValue, doubleValue, boolValue, arrayValue }: Value): unknown {
  if (arrayValue !== undefined) return (arrayValue.values ?? []).map(plainValue)
  return stringValue ?? (intValue === undefined ? undefined : Number(intValue)) ?? doubleValue ?? boolValue
}

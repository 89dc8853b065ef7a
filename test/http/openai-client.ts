// The official client of OpenAI on a port of its own, speaking to a REST interface whose parts are made of memory.
import type { TestContext } from 'node:test'
import OpenAI, { APIError } from 'openai'
import type { HttpParts } from '../../src/http/http.ts'
import { makeService, type Service } from './fakes.ts'

export interface ClientAndService extends Service {
  readonly client: OpenAI
  readonly address: string
}

/** Nothing of the client is set but where the service is and a key. It is closed with the test. */
export async function openClient(
  t: TestContext,
  changes: Partial<HttpParts> = {},
  apiKey = 'no-key-is-asked-for',
): Promise<ClientAndService> {
  const service = makeService(changes)
  const address = await service.app.listen({ host: '127.0.0.1', port: 0 })
  t.after(() => service.app.close())
  return { ...service, address, client: new OpenAI({ baseURL: `${address}/v1`, apiKey }) }
}

/** What the client throws. */
export async function errorOf(asked: PromiseLike<unknown>): Promise<APIError> {
  try {
    await asked
  } catch (error) {
    if (error instanceof APIError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

export function jsonLines(lines: readonly unknown[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('')
}

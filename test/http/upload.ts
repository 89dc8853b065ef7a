// Sends an import as browsers and curl do: a multipart form whose bytes are files.
import type { Service } from './fakes.ts'

export interface Part {
  readonly name: string
  /** Bytes become a file. */
  readonly value: string | Uint8Array
}

export function upload({ app }: Pick<Service, 'app'>, parts: readonly Part[]) {
  const form = new FormData()
  for (const { name, value } of parts) {
    if (typeof value === 'string') form.append(name, value)
    else form.append(name, new Blob([new Uint8Array(value)]), name)
  }
  return app.inject({ method: 'POST', url: '/prefixes/import', payload: form })
}

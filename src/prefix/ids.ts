// Ids and names of prefixes: how they are made, and how they are read in a request.
import { randomBytes } from 'node:crypto'
import { ServiceError } from '../errors/errors.ts'

const timeDigits = 9
const timeEnd = 36 ** timeDigits
const randomDigits = 15
const idPattern = /^pfx_[0-9a-z]{24}$/
const namePattern = /^[a-z0-9][a-z0-9\-_.]{0,62}$/
const referencePattern = /^([^@]*)(?:@([1-9][0-9]{0,7}))?$/

/** What a request names: one prefix by its id, the versions under a name, or one version of it. */
export type Reference =
  | { readonly by: 'id'; readonly id: string }
  | { readonly by: 'name'; readonly name: string; readonly version: number | null }

let lastMs = 0

/**
 * `pfx` gives `pfx_` and 24 characters of [0-9a-z]: 9 that count the time down, in ms, and 15 at random (77 bits). So ids
 * in byte order are prefixes from the newest to the oldest; two of one process never share their ms.
 */
export function newId(kind: string, nowMs = Date.now()): string {
  lastMs = Math.max(nowMs, lastMs + 1)
  const time = (timeEnd - 1 - lastMs).toString(36).padStart(timeDigits, '0')
  return `${kind}_${time}${randomText()}`
}

export function isPrefixId(text: string): boolean {
  return idPattern.test(text)
}

/** Throws `invalid_request`. */
export function checkName(name: string): void {
  if (namePattern.test(name) && !name.startsWith('pfx_')) return
  const message = `the name ${shown(name)} must be 1 to 63 of a-z 0-9 - _ . that begin with a letter or digit, not with pfx_`
  throw new ServiceError('invalid_request', message, { name: name.slice(0, 100) })
}

/** Throws `prefix_not_found` for what could never be found. */
export function parseReference(text: string): Reference {
  if (isPrefixId(text)) return { by: 'id', id: text }
  const [, name = '', version] = referencePattern.exec(text) ?? []
  if (!namePattern.test(name) || name.startsWith('pfx_')) throw notFound(text)
  return { by: 'name', name, version: version === undefined ? null : Number(version) }
}

export function notFound(asked: string): ServiceError {
  return new ServiceError('prefix_not_found', `there is no prefix ${shown(asked)}`, { prefix: asked.slice(0, 100) })
}

function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

function randomText(): string {
  let text = ''
  while (text.length < randomDigits) {
    // 252 is the last whole multiple of 36 in a byte: above it, low digits would come too often.
    for (const byte of randomBytes(randomDigits)) if (byte < 252) text += (byte % 36).toString(36)
  }
  return text.slice(0, randomDigits)
}

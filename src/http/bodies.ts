// From the bytes of a body to its value: JSON that is well-formed text, JSON Lines as they came.
import type { FastifyInstance } from 'fastify'
import { ServiceError } from '../errors/errors.ts'
import { show } from './validation.ts'

export const jsonLinesTypes = ['application/x-ndjson', 'application/jsonl', 'application/jsonlines'] as const

/** Bodies are validated with all their errors listed, so what would make endless lists is refused before. */
const fieldsMax = 64
const depthMax = 8
const itemsMax = 100_000

export function registerBodyParsers(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser(['application/json', 'text/plain'])
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    // Some clients name a type on every request; where no body is taken, none is missing.
    if (bytes.length === 0 && request.routeOptions.schema?.body === undefined) {
      done(null, undefined)
      return
    }
    let text: string
    try {
      // The framework's own parser would replace broken bytes without a word.
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch (cause) {
      const message = `the body is not valid UTF-8 (${describeBrokenByte(bytes)})`
      done(new ServiceError('invalid_request', message, {}, { cause }), undefined)
      return
    }
    void parseJson(request, text, (error, body) => {
      const problem = error === null ? problemWithShape(body, '', 0) : null
      done(problem === null ? error : new ServiceError('invalid_request', problem), body)
    })
  })
  app.addContentTypeParser<Buffer>([...jsonLinesTypes], { parseAs: 'buffer' }, (_request, bytes, done) =>
    done(null, bytes),
  )
}

/** The longest beginning that could go on well ends at the byte that does not. */
function describeBrokenByte(bytes: Buffer): string {
  let good = 0
  let bad = bytes.length + 1
  while (bad - good > 1) {
    const middle = (good + bad) >> 1
    if (isBeginning(bytes.subarray(0, middle))) good = middle
    else bad = middle
  }
  if (good === bytes.length) return 'its last character is cut'
  return `byte ${good}: 0x${(bytes[good] ?? 0).toString(16).padStart(2, '0')}`
}

/** Whether `bytes` are well-formed, but for a last character that may be cut. */
function isBeginning(bytes: Buffer): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true })
    return true
  } catch {
    return false
  }
}

function problemWithShape(value: unknown, pointer: string, depth: number): string | null {
  if (typeof value !== 'object' || value === null) return null
  const where = pointer === '' ? 'the body' : pointer
  if (depth >= depthMax) return `${where} is nested more than ${depthMax} deep`
  const list = Array.isArray(value)
  const keys = list ? null : Object.keys(value)
  if (keys !== null && keys.length > fieldsMax)
    return `${where} has ${keys.length} fields, at most ${fieldsMax} are read`
  if (list && value.length > itemsMax) return `${where} has ${value.length} items, at most ${itemsMax} are read`
  const items: readonly unknown[] = Object.values(value)
  for (let i = 0; i < items.length; i++) {
    const name = keys === null ? String(i) : show(keys[i]).slice(1, -1)
    const problem = problemWithShape(items[i], `${pointer}/${name}`, depth + 1)
    if (problem !== null) return problem
  }
  return null
}

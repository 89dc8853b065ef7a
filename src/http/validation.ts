// What is wrong with a request, as a list: where, what was expected, and what came.
import type { FastifySchemaValidationError } from 'fastify'
import { ServiceError } from '../errors/errors.ts'
import { countMarks, inputMark } from '../prefix/template.ts'

export interface FieldError {
  /** JSON pointer (RFC 6901) into the body, or `?name` for the query and `{name}` for the path. */
  readonly pointer: string
  readonly expected: string
  readonly received: string
}

/** Longer lists are cut; `errorsTotal` counts them all. */
const errorsListedMax = 100
const receivedCharactersMax = 80

interface ValidationError {
  readonly validation: FastifySchemaValidationError[]
  readonly validationContext?: string
}

/** With its option `verbose` the validator also tells what came and which schema it met. */
interface VerboseError extends FastifySchemaValidationError {
  readonly data?: unknown
  readonly parentSchema?: { readonly properties?: Readonly<Record<string, unknown>> }
}

export function isValidationError(error: unknown): error is ValidationError {
  return typeof error === 'object' && error !== null && Array.isArray((error as ValidationError).validation)
}

export function listErrors({ validation, validationContext = 'body' }: ValidationError): {
  readonly detail: string
  readonly details: Readonly<Record<string, unknown>>
} {
  const errors = validation.slice(0, errorsListedMax).map((error) => describe(error, validationContext))
  return describeAll(errors, validation.length)
}

/** For what a schema cannot say: the error of a request whose fields do not go together. */
export function invalidFields(errors: readonly FieldError[]): ServiceError {
  const { detail, details } = describeAll(errors.slice(0, errorsListedMax), errors.length)
  return new ServiceError('invalid_request', detail, details)
}

function describeAll(errors: readonly FieldError[], errorsTotal: number) {
  const [first] = errors
  const more = errorsTotal > 1 ? ` (and ${errorsTotal - 1} more, see errors)` : ''
  const detail =
    first && `${first.pointer || 'the body'}: expected ${first.expected}, received ${first.received}${more}`
  return { detail: detail ?? 'the request does not fit its schema', details: { errors, errorsTotal } }
}

function describe(error: VerboseError, context: string): FieldError {
  const { keyword, params, instancePath, message = 'something else', data, parentSchema } = error
  const at = (name?: string): string => pointerOf(context, instancePath, name)
  if (keyword === 'additionalProperties') {
    const known = Object.keys(parentSchema?.properties ?? {}).join(', ')
    const name = params['additionalProperty'] as string
    return { pointer: at(name), expected: `one of the fields ${known}`, received: `the unknown field ${show(name)}` }
  }
  if (keyword === 'required') {
    return { pointer: at(params['missingProperty'] as string), expected: 'a value', received: 'nothing' }
  }
  return { pointer: at(), expected: expectationOf(keyword, params, message), received: show(data) }
}

function expectationOf(keyword: string, params: Readonly<Record<string, unknown>>, message: string): string {
  const { type, allowedValues, allowedValue, pattern } = params
  if (keyword === 'type') return Array.isArray(type) ? type.join(' or ') : String(type)
  if (keyword === 'enum' && Array.isArray(allowedValues)) return `one of ${allowedValues.map(show).join(', ')}`
  if (keyword === 'const') return show(allowedValue)
  if (keyword === 'pattern') return `text of the form ${String(pattern)}`
  // `must be >= 1`, `must NOT have fewer than 1 items`: the validator's words without the "must".
  return message
    .replace(/^must (be )?/, '')
    .replace('NOT have fewer than', 'at least')
    .replace('NOT have more than', 'at most')
}

function pointerOf(context: string, path: string, name?: string): string {
  const last = name === undefined ? '' : `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
  const pointer = path + last
  if (context === 'querystring') return `?${pointer.slice(1)}`
  return context === 'params' ? `{${pointer.slice(1)}}` : pointer
}

/** null: the template is good. */
export function templateError(template: string): FieldError | null {
  const places = countMarks(template)
  if (places === 1) return null
  return { pointer: '/template', expected: `${inputMark} once`, received: `${places} times in ${show(template)}` }
}

/** A value, short enough to be read in a message. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return `an object of ${Object.keys(value).length} fields`
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length <= receivedCharactersMax ? text : `${text.slice(0, receivedCharactersMax)}… (${text.length} long)`
}

/** Query values come as text; those that are numbers are read as such before the schema sees them. */
export function readNumbers(...names: readonly string[]) {
  return (request: { query: unknown }, _reply: unknown, done: () => void): void => {
    const query = request.query as Record<string, unknown>
    for (const name of names) {
      const text = query[name]
      if (typeof text === 'string' && /^[0-9]{1,9}$/.test(text)) query[name] = Number(text)
    }
    done()
  }
}

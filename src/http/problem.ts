// Errors as application/problem+json (RFC 9457): the one place that knows status codes of errors.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type ErrorCode, ServiceError } from '../errors/errors.ts'
import { isValidationError, listErrors } from './validation.ts'

interface Kind {
  readonly status: number
  readonly title: string
}

export type ProblemCode = ErrorCode | 'internal'

/** A code without a row here does not compile; one without a heading in docs/errors.md fails a test. */
export const kinds: { readonly [Code in ProblemCode]: Kind } = {
  invalid_request: { status: 400, title: 'The request is not one that this route takes' },
  unauthorized: { status: 401, title: 'The request carries no valid API key' },
  route_not_found: { status: 404, title: 'There is no such route' },
  body_too_large: { status: 413, title: 'The body is larger than this route takes' },
  unsupported_media_type: { status: 415, title: 'The body has a media type that this route does not take' },
  prefix_not_found: { status: 404, title: 'There is no such prefix' },
  prefix_not_ready: { status: 409, title: 'The prefix cannot be used in its present state' },
  prefix_model_mismatch: { status: 409, title: 'The prefix belongs to another model' },
  prefix_invalid: { status: 422, title: 'The file is not a valid prefix' },
  dataset_not_found: { status: 404, title: 'There is no such dataset' },
  examples_invalid: { status: 422, title: 'The examples cannot be trained on' },
  input_too_long: { status: 422, title: 'Prefix, prompt and new tokens exceed the context of the model' },
  not_supported: { status: 422, title: 'This version of the service cannot do that' },
  job_not_found: { status: 404, title: 'There is no such job' },
  job_finished: { status: 409, title: 'The job has ended already' },
  cancelled: { status: 503, title: 'The work was cancelled' },
  deadline_exceeded: { status: 504, title: 'The request was not done by its deadline' },
  training_diverged: { status: 422, title: 'The training ran away' },
  model_invalid: { status: 500, title: 'The model folder cannot be used' },
  config_invalid: { status: 500, title: 'The configuration cannot be used' },
  engine_failed: { status: 500, title: 'The model failed while it ran' },
  overloaded: { status: 503, title: 'Too much is waiting already' },
  queue_unavailable: { status: 503, title: 'The job queue cannot be reached' },
  store_unavailable: { status: 503, title: 'The object store cannot be reached' },
  store_full: { status: 507, title: 'The object store has no room left' },
  internal: { status: 500, title: 'Something is wrong with the service itself' },
}

/** Told to clients of a part that is away; a full line says itself how long it takes. */
const retryAfterSeconds = 5
const retriedCodes: ReadonlySet<ProblemCode> = new Set([
  'overloaded',
  'cancelled',
  'queue_unavailable',
  'store_unavailable',
])

export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly code: ProblemCode
  readonly detail: string
  /** The id of the request, to be quoted when asking about it. */
  readonly instance: string
  readonly [member: string]: unknown
}

export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = prepareProblem(error, request, reply)
  return reply.code(problem.status).type('application/problem+json').send(problem)
}

/** Writes the log and sets the headers that go with the problem, in whatever shape it is then sent. */
export function prepareProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): Problem {
  const problem = loggedProblem(error, request, reply)
  if (retriedCodes.has(problem.code)) {
    const { retryAfterSeconds: seconds } = problem
    void reply.header('retry-after', String(typeof seconds === 'number' ? Math.ceil(seconds) : retryAfterSeconds))
  }
  // The rest of the body is not read.
  if (problem.status === 413) void reply.header('connection', 'close')
  if (problem.code === 'unauthorized') void reply.header('www-authenticate', 'Bearer realm="preamble"')
  return problem
}

/** The log and the document alone: a stream that has begun has no status to set any more, and ends with it. */
export function loggedProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): Problem {
  const { code, detail, details } = describe(error)
  const { status, title } = kinds[code]
  if (code === 'internal') request.log.error({ err: error }, 'unexpected error')
  else if (status >= 500 && !reply.raw.destroyed) request.log.warn({ code, detail }, 'request failed')
  return { ...details, type: `/errors#${code}`, title, status, code, detail, instance: request.id }
}

interface Description {
  readonly code: ProblemCode
  readonly detail: string
  readonly details?: Readonly<Record<string, unknown>>
}

function describe(error: unknown): Description {
  if (error instanceof ServiceError) return { code: error.code, detail: error.message, details: error.details }
  if (isValidationError(error)) return { code: 'invalid_request', ...listErrors(error) }
  const { statusCode, message } = (error ?? {}) as { statusCode?: unknown; message?: unknown }
  const code = codeOfStatus(statusCode)
  // The text of an unknown error is for the log: it may tell of things that are no business of clients.
  if (code === 'internal') return { code, detail: 'see the log of the service for this request id' }
  return { code, detail: String(message) }
}

/** The framework's own refusals carry a status: of the body, its type, the URL. */
function codeOfStatus(status: unknown): ProblemCode {
  if (status === 413) return 'body_too_large'
  if (status === 415) return 'unsupported_media_type'
  return typeof status === 'number' && status >= 400 && status < 500 ? 'invalid_request' : 'internal'
}

export function sendRouteNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?')[0] ?? ''
  const message = `there is no ${request.method} ${path}; GET /docs lists what there is`
  return sendProblem(new ServiceError('route_not_found', message), request, reply)
}

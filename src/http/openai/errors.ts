// Errors as OpenAI's clients read them: { error: { message, type, param, code } }.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ServiceError } from '../../errors/errors.ts'
import { loggedProblem, prepareProblem, type Problem, type ProblemCode } from '../problem.ts'
import { Anything, answer, Nullable } from '../schemas/shared.ts'
import type { FieldError } from '../validation.ts'

const ErrorBody = answer('OpenAIError', 'An error in the shape of OpenAI.', {
  error: Type.Object({
    message: Type.String(),
    type: Type.String({ description: '`invalid_request_error`, `authentication_error` or `server_error`.' }),
    param: Nullable(Type.String(), { description: 'The field that it is about.' }),
    code: Type.String({ description: "A code of GET /errors, or OpenAI's own where clients match on it." }),
    errors: Type.Optional(Type.Array(Anything(), { description: 'All that is wrong, where there is more to say.' })),
  }),
})

/** Codes that OpenAI's clients match on, in the place of ours. */
const theirCodes: Partial<Readonly<Record<ProblemCode, string>>> = {
  unauthorized: 'invalid_api_key',
  prefix_not_found: 'model_not_found',
  input_too_long: 'context_length_exceeded',
}

/** Their clients know one class for what the caller has to mend, and send a 409 again by themselves. */
const theirStatuses: Readonly<Record<number, number>> = { 409: 400, 422: 400 }

const texts = {
  400: 'The request cannot be done as it is.',
  401: 'No valid API key came with it.',
  404: 'What it names is not there.',
  413: 'The body is too large.',
  415: 'The body has another media type.',
  500: 'The service or its model failed.',
  503: 'Try again after the time in Retry-After.',
  507: 'The object store is full.',
} as const

/** The responses of a route that are errors: those given, and those any route may answer. */
export function openaiErrors(...statuses: readonly (keyof typeof texts)[]) {
  const all = [...new Set<keyof typeof texts>([...statuses, 401, 500])].sort((a, b) => a - b)
  return Object.fromEntries(
    all.map((status) => [
      status,
      { description: texts[status], content: { 'application/json': { schema: ErrorBody } } },
    ]),
  )
}

export function sendOpenaiError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = prepareProblem(error, request, reply)
  return reply
    .code(theirStatuses[problem.status] ?? problem.status)
    .type('application/json')
    .send(toBody(problem))
}

/** The log and the body alone, for streams that have begun. */
export function loggedOpenaiError(error: unknown, request: FastifyRequest, reply: FastifyReply) {
  return toBody(loggedProblem(error, request, reply))
}

const notServed: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'chat completions are not served; send the input as the prompt of POST /v1/completions',
  '/v1/responses': 'responses are not served; send the input as the prompt of POST /v1/completions',
}

export function sendOpenaiRouteNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?')[0] ?? ''
  const error = notServed[path]
  if (error !== undefined) {
    const body = { message: error, type: 'invalid_request_error', param: null, code: 'not_supported' }
    return reply.code(404).send({ error: body })
  }
  const message = `there is no ${request.method} ${path}; GET /docs lists what there is`
  return sendOpenaiError(new ServiceError('route_not_found', message), request, reply)
}

/** What a request asks for that is not to be had here, named by its field. */
export function notSupported(param: string, message: string): ServiceError {
  return new ServiceError('not_supported', message, { param })
}

function toBody({ status, code, detail, errors, param }: Problem) {
  const type =
    status >= 500 ? 'server_error' : code === 'unauthorized' ? 'authentication_error' : 'invalid_request_error'
  const list = Array.isArray(errors) ? (errors as (Partial<FieldError> & object)[]) : null
  const pointer = list?.[0]?.pointer
  return {
    error: {
      message: detail,
      type,
      param: typeof param === 'string' ? param : pointer === undefined ? null : paramOf(pointer),
      code: theirCodes[code] ?? code,
      ...(list !== null && { errors: list }),
    },
  }
}

/** `/stop/0` is `stop[0]`, `/method/type` is `method.type`, `?limit` is `limit`. */
function paramOf(pointer: string): string | null {
  const path = pointer
    .replace(/^[/?{]/, '')
    .replace(/\}$/, '')
    .replace(/\/(\d+)(?=\/|$)/g, '[$1]')
    .replaceAll('/', '.')
  return path === '' ? null : path
}

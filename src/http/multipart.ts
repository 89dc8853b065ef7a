// Multipart bodies, part by part; what is wrong with one as such is said in one place.
import type { Multipart } from '@fastify/multipart'
import type { FastifyError, FastifyRequest } from 'fastify'
import { ServiceError } from '../errors/errors.ts'

/** Gives every part to `take`, and throws what it throws; `invalid_request` or `unsupported_media_type` otherwise. */
export async function readMultipart(
  request: FastifyRequest,
  take: (part: Multipart) => Promise<void> | void,
): Promise<void> {
  if (!request.isMultipart()) {
    const message = `the body is ${request.headers['content-type'] ?? 'of no type'}, this route takes multipart/form-data`
    throw new ServiceError('unsupported_media_type', message)
  }
  try {
    for await (const part of request.parts()) await take(part)
  } catch (error) {
    // Refusals, ours and the framework's, say what they are; the parser's own words come bare.
    if (error instanceof ServiceError || (error as FastifyError).statusCode !== undefined) throw error
    const message = `the multipart body cannot be read: ${(error as Error).message}`
    throw new ServiceError('invalid_request', message, {}, { cause: error })
  }
}

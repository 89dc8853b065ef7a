// The multipart form of an upload: one file and what it is for.
import type { FastifyError, FastifyRequest } from 'fastify'
import { ServiceError } from '../../errors/errors.ts'
import { invalidFields, show } from '../validation.ts'

export const purpose = 'fine-tune'
export const filenameCharactersMax = 255

export interface FileForm {
  readonly filename: string
  readonly content: Buffer
}

/** Throws `invalid_request`, `unsupported_media_type` or `body_too_large`. */
export async function readFileForm(request: FastifyRequest): Promise<FileForm> {
  if (!request.isMultipart()) {
    const message = `the body is ${request.headers['content-type'] ?? 'of no type'}, this route takes multipart/form-data`
    throw new ServiceError('unsupported_media_type', message)
  }
  let file: FileForm | null = null
  let asked: string | null = null
  try {
    for await (const part of request.parts()) {
      const { fieldname } = part
      if (part.type === 'file' && fieldname === 'file') {
        file = { filename: checkFilename(part.filename), content: await part.toBuffer() }
      } else if (part.type === 'field' && fieldname === 'purpose') asked = String(part.value)
      else {
        const expected = 'the file file and the field purpose'
        throw invalidFields([{ pointer: `/${fieldname}`, expected, received: `the ${part.type} ${show(fieldname)}` }])
      }
    }
  } catch (error) {
    // Refusals, ours and the framework's, say what they are; the parser's own words come bare.
    if (error instanceof ServiceError || (error as FastifyError).statusCode !== undefined) throw error
    const message = `the multipart body cannot be read: ${(error as Error).message}`
    throw new ServiceError('invalid_request', message, {}, { cause: error })
  }
  if (asked !== purpose) {
    throw invalidFields([
      { pointer: '/purpose', expected: show(purpose), received: asked === null ? 'nothing' : show(asked) },
    ])
  }
  if (file === null) throw invalidFields([{ pointer: '/file', expected: 'a file', received: 'nothing' }])
  return file
}

function checkFilename(name: string): string {
  if (name !== '' && name.length <= filenameCharactersMax && !/[\p{Cc}\p{Surrogate}]/u.test(name)) return name
  const expected = `a file name of 1 to ${filenameCharactersMax} characters, none of them a control character`
  throw invalidFields([{ pointer: '/file', expected, received: show(name) }])
}

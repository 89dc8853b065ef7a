// The multipart form of an upload: one file and what it is for.
import type { FastifyRequest } from 'fastify'
import { readMultipart } from '../multipart.ts'
import { invalidFields, show } from '../validation.ts'

export const purpose = 'fine-tune'
const filenameCharactersMax = 255

export interface FileForm {
  readonly filename: string
  readonly content: Buffer
}

/** Throws `invalid_request`, `unsupported_media_type` or `body_too_large`. */
export async function readFileForm(request: FastifyRequest): Promise<FileForm> {
  const came: { file?: FileForm; purpose?: string } = {}
  await readMultipart(request, async (part) => {
    const { fieldname } = part
    if (part.type === 'file' && fieldname === 'file')
      came.file = { filename: checkFilename(part.filename), content: await part.toBuffer() }
    else if (part.type === 'field' && fieldname === 'purpose') came.purpose = String(part.value)
    else {
      const expected = 'the file file and the field purpose'
      throw invalidFields([{ pointer: `/${fieldname}`, expected, received: `the ${part.type} ${show(fieldname)}` }])
    }
  })
  if (came.purpose !== purpose) {
    const received = came.purpose === undefined ? 'nothing' : show(came.purpose)
    throw invalidFields([{ pointer: '/purpose', expected: show(purpose), received }])
  }
  if (came.file === undefined) throw invalidFields([{ pointer: '/file', expected: 'a file', received: 'nothing' }])
  return came.file
}

function checkFilename(name: string): string {
  if (name !== '' && name.length <= filenameCharactersMax && !/[\p{Cc}\p{Surrogate}]/u.test(name)) return name
  const expected = `a file name of 1 to ${filenameCharactersMax} characters, none of them a control character`
  throw invalidFields([{ pointer: '/file', expected, received: show(name) }])
}

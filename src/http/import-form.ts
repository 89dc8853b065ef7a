// The multipart form of an import: which files came, under which names, and whether they go together.
import type { Multipart, MultipartFile } from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import { ServiceError } from '../errors/errors.ts'
import { readMultipart } from './multipart.ts'
import type { HttpLimits } from './parts.ts'
import { invalidFields, show, templateError } from './validation.ts'

const fieldNames = ['name', 'template'] as const
const fileNames = ['artifact', 'adapter_config', 'adapter_model', 'paper_model'] as const
type FileName = (typeof fileNames)[number]
const waysExpected = 'artifact, or adapter_config and adapter_model, or paper_model'

/** The files of one prefix, in one of the ways that it can come. */
export type ImportFiles =
  | { readonly kind: 'artifact'; readonly artifact: Buffer }
  | { readonly kind: 'peft'; readonly config: Buffer; readonly model: Buffer }
  | { readonly kind: 'paper'; readonly model: Buffer }

export interface ImportForm {
  readonly files: ImportFiles
  readonly name: string | null
  /** null: the file's own, or the default of its kind. */
  readonly template: string | null
}

/** Throws `invalid_request`, `unsupported_media_type` or `body_too_large`. */
export async function readImportForm(request: FastifyRequest, limits: HttpLimits): Promise<ImportForm> {
  const { files, fields } = await readParts(request, fileLimits(limits))
  const template = fields.get('template') ?? null
  const badTemplate = template === null ? null : templateError(template)
  if (badTemplate !== null) throw invalidFields([badTemplate])
  return { files: chooseFiles(files), name: fields.get('name') ?? null, template }
}

/** In bytes. A config is far smaller, but the tensors may come in its place by mistake, and that is said with better words. */
function fileLimits({ artifactBytesMax, paperBytesMax }: HttpLimits): Readonly<Record<FileName, number>> {
  return {
    artifact: artifactBytesMax,
    adapter_config: artifactBytesMax,
    adapter_model: artifactBytesMax,
    paper_model: paperBytesMax,
  }
}

async function readParts(request: FastifyRequest, bytesMax: Readonly<Record<FileName, number>>) {
  const files = new Map<FileName, Buffer>()
  const fields = new Map<string, string>()
  await readMultipart(request, async (part) => {
    checkPart(part)
    if (part.type === 'field') fields.set(part.fieldname, String(part.value))
    else {
      const name = part.fieldname as FileName
      if (files.has(name)) throw invalidFields([{ pointer: `/${name}`, expected: 'one file', received: 'two' }])
      files.set(name, await readFile(part, bytesMax[name]))
    }
  })
  return { files, fields }
}

function checkPart({ type, fieldname }: Multipart): void {
  const known: readonly string[] = type === 'file' ? fileNames : fieldNames
  if (known.includes(fieldname)) return
  const expected = `files (${waysExpected}) and the fields name and template`
  throw invalidFields([{ pointer: `/${fieldname}`, expected, received: `the ${type} ${show(fieldname)}` }])
}

async function readFile({ fieldname, file }: MultipartFile, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of file as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) {
      throw new ServiceError(
        'body_too_large',
        `the file ${fieldname} has more than ${bytesMax} bytes, the most it may have`,
      )
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function chooseFiles(files: ReadonlyMap<FileName, Buffer>): ImportFiles {
  const came = [...files.keys()]
  const artifact = files.get('artifact')
  const config = files.get('adapter_config')
  const model = files.get('adapter_model')
  const paper = files.get('paper_model')
  if (artifact !== undefined && came.length === 1) return { kind: 'artifact', artifact }
  if (paper !== undefined && came.length === 1) return { kind: 'paper', model: paper }
  if (config !== undefined && model !== undefined && came.length === 2) return { kind: 'peft', config, model }
  if (came.length === 1) {
    const other = config === undefined ? 'adapter_config' : 'adapter_model'
    throw invalidFields([{ pointer: `/${other}`, expected: `a file beside ${came.join()}`, received: 'nothing' }])
  }
  const received = came.length === 0 ? 'nothing' : came.join(' and ')
  throw invalidFields([
    { pointer: `/${came[1] ?? 'artifact'}`, expected: `the files of one prefix: ${waysExpected}`, received },
  ])
}

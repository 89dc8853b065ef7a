// POST /prefixes/import: a prefix file from elsewhere, checked against the model before it is kept.
import multipart, { type Multipart } from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyError, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ServiceError } from '../../errors/errors.ts'
import { checkPrefixFits, decodePrefix } from '../../prefix/artifact.ts'
import type { Prefix } from '../../prefix/prefix.ts'
import type { PrefixRecord } from '../../prefix/record.ts'
import type { HttpParts } from '../parts.ts'
import { PrefixSchema, templateLengthMax } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { invalidFields, show, templateError } from '../validation.ts'
import { toAnswer } from './prefixes.ts'

const File = Type.Unsafe<Buffer>({ type: 'string', contentMediaType: 'application/octet-stream' })
const Upload = Type.Object({
  artifact: File,
  name: Type.Optional(Type.String({ description: 'A name may get new versions.' })),
  template: Type.Optional(Type.String({ description: 'Instead of the one in the file; {input} stands in it once.' })),
})

const peftFiles: readonly string[] = ['adapter_config', 'adapter_model']

interface Form {
  readonly artifact: Buffer
  readonly name: string | null
  readonly template: string | null
}

export function importRoutes(parts: HttpParts): FastifyPluginAsyncTypebox {
  const { artifactBytesMax } = parts.limits
  return async (app) => {
    await app.register(multipart, {
      throwFileSizeLimit: true,
      limits: { fileSize: artifactBytesMax, files: 2, fields: 2, parts: 4, fieldSize: templateLengthMax * 4 },
    })
    app.post(
      '/prefixes/import',
      {
        // Its parts are read one by one below, not as a body.
        validatorCompiler: () => () => true,
        schema: {
          operationId: 'importPrefix',
          summary: 'Import a prefix file',
          description: "The file must belong to the model of this service. PEFT's two files are not supported yet.",
          tags: ['prefixes'],
          consumes: ['multipart/form-data'],
          body: Upload,
          response: {
            201: {
              description: 'It is ready.',
              headers: { location: { type: 'string', description: 'The prefix.' } },
              content: { 'application/json': { schema: PrefixSchema } },
            },
            ...problems(400, 409, 413, 415, 422, 503, 507),
          },
        },
      },
      async (request, reply) => {
        const record = await importPrefix(await readForm(request, artifactBytesMax), parts)
        return reply.code(201).header('location', `/prefixes/${record.id}`).send(toAnswer(record))
      },
    )
  }
}

async function importPrefix({ artifact, name, template }: Form, { registry, model }: HttpParts): Promise<PrefixRecord> {
  const decoded = decodePrefix(artifact)
  checkPrefixFits(decoded.header, model)
  const header = { ...decoded.header, template: template ?? decoded.header.template }
  const prefix: Prefix = { ...decoded, header }
  const record = await registry.create({
    name,
    jobId: null,
    dataset: null,
    template: header.template,
    prefixLength: header.prefixLength,
    training: header.training,
    model: { name: model.name, sha256: model.sha256 },
    tokenizerSha256: model.tokenizerSha256,
  })
  try {
    return await registry.publish(record.id, prefix, {})
  } catch (error) {
    // Half an import is worth nothing; its version is lost, which is no harm.
    await registry.delete(record.id).catch(() => {})
    throw error
  }
}

async function readForm(request: FastifyRequest, artifactBytesMax: number): Promise<Form> {
  if (!request.isMultipart()) {
    const message = `the body is ${request.headers['content-type'] ?? 'of no type'}, this route takes multipart/form-data`
    throw new ServiceError('unsupported_media_type', message)
  }
  const { artifact, fields } = await readParts(request)
  if (artifact === null) {
    throw invalidFields([
      { pointer: '/artifact', expected: `a file of at most ${artifactBytesMax} bytes`, received: 'nothing' },
    ])
  }
  const template = fields.get('template') ?? null
  const badTemplate = template === null ? null : templateError(template)
  if (badTemplate !== null) throw invalidFields([badTemplate])
  return { artifact, name: fields.get('name') ?? null, template }
}

async function readParts(request: FastifyRequest) {
  let artifact: Buffer | null = null
  const fields = new Map<string, string>()
  try {
    for await (const part of request.parts()) {
      checkPart(part)
      if (part.type === 'field') fields.set(part.fieldname, String(part.value))
      else artifact = await part.toBuffer()
    }
  } catch (error) {
    // Refusals, ours and the framework's, say what they are; the parser's own words come bare.
    if (error instanceof ServiceError || (error as FastifyError).statusCode !== undefined) throw error
    const message = `the multipart body cannot be read: ${(error as Error).message}`
    throw new ServiceError('invalid_request', message, {}, { cause: error })
  }
  return { artifact, fields }
}

function checkPart({ type, fieldname }: Multipart): void {
  if (peftFiles.includes(fieldname)) {
    const message = "PEFT's files cannot be imported by this version; a file of GET /prefixes/{idOrName}/artifact can"
    throw new ServiceError('not_supported', message, { part: fieldname })
  }
  if (type === 'file' ? fieldname === 'artifact' : fieldname === 'name' || fieldname === 'template') return
  const expected = 'the file artifact and the fields name and template'
  throw invalidFields([{ pointer: `/${fieldname}`, expected, received: `the ${type} ${show(fieldname)}` }])
}

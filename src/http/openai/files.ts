// /v1/files: files of examples for fine-tuning, each stored as a dataset too.
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { TrainingFile } from '../../prefix/training-files.ts'
import type { HttpParts } from '../parts.ts'
import { idLengthMax } from '../schemas/limits.ts'
import { answer, Word } from '../schemas/shared.ts'
import { readNumbers } from '../validation.ts'
import { openaiErrors } from './errors.ts'
import { purpose, readFileForm } from './file-form.ts'
import { toSeconds } from './seconds.ts'

/** Files of one answer; a client that asks for more gets so many and `has_more`. */
const filesListedMax = 1_000
const fieldBytesMax = 1_024

const File = answer('OpenAIFile', 'A file of examples.', {
  id: Type.String({ examples: ['file-0mhxq3v5a7k2m9q4w8r1t6y3'] }),
  object: Word(['file']),
  bytes: Type.Integer(),
  created_at: Type.Integer({ description: 'In seconds since 1970.' }),
  filename: Type.String(),
  purpose: Word([purpose]),
  status: Word(['processed'], { description: 'Every line was read before it was stored.' }),
  dataset: Type.String({ description: 'Id of the same examples as POST /datasets gives it.' }),
})
const FileList = answer('OpenAIFileList', 'A page of files.', {
  object: Word(['list']),
  data: Type.Array(File),
  has_more: Type.Boolean(),
})
const FileDeleted = answer('OpenAIFileDeleted', 'It is gone.', {
  id: Type.String(),
  object: Word(['file']),
  deleted: Type.Boolean(),
})
const Upload = Type.Object({
  file: Type.Unsafe<Buffer>({
    type: 'string',
    contentMediaType: 'application/octet-stream',
    description: 'JSON Lines: {"prompt", "completion"}, {"messages": [user, assistant]} or {"input", "output"} a line.',
  }),
  purpose: Word([purpose]),
})
const FileParams = Type.Object({ id: Type.String() })
const FileQuery = Type.Object(
  {
    limit: Type.Integer({
      minimum: 1,
      maximum: 10_000,
      default: 100,
      description: `At most ${filesListedMax} come at once.`,
    }),
    after: Type.Optional(Type.String({ maxLength: idLengthMax, description: 'The last file of the page before.' })),
    order: Word(['asc', 'desc'], { default: 'desc', description: 'By the time of their creation.' }),
    purpose: Type.Optional(Word([purpose])),
  },
  { additionalProperties: false },
)

export function fileRoutes(parts: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(multipart, {
      throwFileSizeLimit: true,
      limits: { fileSize: parts.limits.datasetBytesMax, files: 1, fields: 2, parts: 3, fieldSize: fieldBytesMax },
    })
    await app.register(uploadRoute(parts))
    await app.register(storedFileRoutes(parts))
  }
}

function uploadRoute({ files }: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/files',
      {
        // Its parts are read one by one, not as a body.
        validatorCompiler: () => () => true,
        schema: {
          operationId: 'openaiCreateFile',
          summary: 'Upload examples for fine-tuning',
          description: 'Every bad line is reported by its number, and then nothing is stored.',
          tags: ['openai'],
          consumes: ['multipart/form-data'],
          body: Upload,
          response: { 200: File, ...openaiErrors(400, 413, 415, 503, 507) },
        },
      },
      (request) => receiveFile(request, files),
    )
  }
}

function storedFileRoutes({ files }: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/files',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'openaiListFiles',
          summary: 'List uploaded files',
          tags: ['openai'],
          querystring: FileQuery,
          response: { 200: FileList, ...openaiErrors(400, 503) },
        },
      },
      async ({ query: { limit, after, order } }) => {
        const asked = { limit: Math.min(limit, filesListedMax), order, ...(after !== undefined && { after }) }
        const { data, hasMore } = await files.list(asked)
        return { object: 'list' as const, data: data.map(toFile), has_more: hasMore }
      },
    )

    app.get(
      '/files/:id',
      {
        schema: {
          operationId: 'openaiGetFile',
          summary: 'Look at an uploaded file',
          tags: ['openai'],
          params: FileParams,
          response: { 200: File, ...openaiErrors(404, 503) },
        },
      },
      async ({ params }) => toFile(await files.get(params.id)),
    )

    app.get(
      '/files/:id/content',
      {
        schema: {
          operationId: 'openaiGetFileContent',
          summary: 'Fetch an uploaded file as it came',
          tags: ['openai'],
          params: FileParams,
          response: {
            200: {
              description: 'The file.',
              content: {
                'application/octet-stream': {
                  schema: Type.Unsafe<Buffer>({ type: 'string', contentMediaType: 'application/octet-stream' }),
                },
              },
            },
            ...openaiErrors(404, 503),
          },
        },
      },
      async ({ params }, reply) => {
        const { buffer, byteOffset, byteLength } = await files.content(params.id)
        return reply.type('application/octet-stream').send(Buffer.from(buffer, byteOffset, byteLength))
      },
    )

    app.delete(
      '/files/:id',
      {
        schema: {
          operationId: 'openaiDeleteFile',
          summary: 'Delete an uploaded file',
          description: 'Trainings that were started with it are not touched: they have its examples as a dataset.',
          tags: ['openai'],
          params: FileParams,
          response: { 200: FileDeleted, ...openaiErrors(404, 503) },
        },
      },
      async ({ params: { id } }) => {
        await files.delete(id)
        return { id, object: 'file' as const, deleted: true }
      },
    )
  }
}

async function receiveFile(request: FastifyRequest, files: HttpParts['files']) {
  const { filename, content } = await readFileForm(request)
  return toFile(await files.put(filename, content))
}

function toFile({ id, bytes, createdAt, filename, datasetId }: TrainingFile) {
  return {
    id,
    object: 'file' as const,
    bytes,
    created_at: toSeconds(createdAt),
    filename,
    purpose,
    status: 'processed' as const,
    dataset: datasetId,
  } as const
}

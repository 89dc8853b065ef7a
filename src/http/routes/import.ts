// POST /prefixes/import: a prefix from elsewhere, checked against the model before it is kept.
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { checkPrefixFits, decodePrefix, type PlayingModel, templateCharactersMax } from '../../prefix/artifact.ts'
import { readPaper } from '../../prefix/paper.ts'
import { readPeft } from '../../prefix/peft.ts'
import type { Prefix } from '../../prefix/prefix.ts'
import type { PrefixRecord } from '../../prefix/record.ts'
import { type ImportForm, readImportForm } from '../import-form.ts'
import type { HttpParts } from '../parts.ts'
import { PrefixSchema } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { toAnswer } from './prefixes.ts'

function File(description: string) {
  return Type.Optional(
    Type.Unsafe<Buffer>({ type: 'string', contentMediaType: 'application/octet-stream', description }),
  )
}

const Upload = Type.Object({
  artifact: File('A file of GET /prefixes/{idOrName}/artifact.'),
  adapter_config: File("PEFT's adapter_config.json, beside `adapter_model`."),
  adapter_model: File("PEFT's adapter_model.safetensors, beside `adapter_config`."),
  paper_model: File("The state dict of the paper's own GPT-2 code as safetensors."),
  name: Type.Optional(Type.String({ description: 'A name may get new versions.' })),
  template: Type.Optional(
    Type.String({
      description:
        "{input} stands in it once. Default: that of `artifact`; `{input}` for PEFT's files; the paper's own.",
    }),
  ),
})

export function importRoutes(parts: HttpParts): FastifyPluginAsyncTypebox {
  const { limits, model } = parts
  const fileSize = Math.max(limits.artifactBytesMax, limits.paperBytesMax)
  return async (app) => {
    await app.register(multipart, {
      throwFileSizeLimit: true,
      limits: { fileSize, files: 2, fields: 2, parts: 4, fieldSize: templateCharactersMax * 4 },
    })
    app.post(
      '/prefixes/import',
      {
        // Its parts are read one by one, not as a body.
        validatorCompiler: () => () => true,
        schema: {
          operationId: 'importPrefix',
          summary: "Import a prefix: our file, PEFT's two, or the paper's checkpoint",
          description: 'The prefix must fit the model of this service. One of the three ways that a prefix can come.',
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
        const form = await readImportForm(request, limits)
        const record = await keepPrefix(await readPrefix(form, model), form.name, parts)
        return reply.code(201).header('location', `/prefixes/${record.id}`).send(toAnswer(record))
      },
    )
  }
}

async function readPrefix({ files, template }: ImportForm, model: PlayingModel): Promise<Prefix> {
  if (files.kind === 'peft') return readPeft(files, model, template ?? undefined)
  if (files.kind === 'paper') return readPaper(files.model, model, template ?? undefined)
  const decoded = decodePrefix(files.artifact)
  checkPrefixFits(decoded.header, model)
  return { ...decoded, header: { ...decoded.header, template: template ?? decoded.header.template } }
}

async function keepPrefix(prefix: Prefix, name: string | null, { registry, model }: HttpParts): Promise<PrefixRecord> {
  const { header } = prefix
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

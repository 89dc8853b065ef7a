// /v1/models: the bare model and every prefix that is ready, each a model of its own.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ServiceError } from '../../errors/errors.ts'
import type { PrefixRecord } from '../../prefix/record.ts'
import type { HttpParts } from '../parts.ts'
import { deletePrefix } from '../routes/prefixes.ts'
import { prefixReferenceMax } from '../schemas/limits.ts'
import { answer, Word } from '../schemas/shared.ts'
import { readNumbers } from '../validation.ts'
import { notSupported, openaiErrors } from './errors.ts'
import { toSeconds } from './seconds.ts'
import type { Shared } from './shared.ts'

/** Models of one answer: their clients ask for no second page of models. */
const modelsListedMax = 1_000

const fields = {
  id: Type.String({
    description: 'name@version of a prefix, its id where it has no name, or the name of the bare model.',
  }),
  object: Word(['model']),
  created: Type.Integer({ description: 'In seconds since 1970; 0 for the bare model.' }),
  owned_by: Type.String(),
}
const Model = answer('OpenAIModel', 'A model to generate with.', fields)
const ModelList = answer('OpenAIModelList', 'Models: the bare one first, then the newest.', {
  object: Word(['list']),
  data: Type.Array(Model),
  has_more: Type.Boolean({ description: 'Whether there are more behind the last one: ask with `after`.' }),
})
const ModelDeleted = answer('OpenAIModelDeleted', 'It is gone.', {
  id: Type.String(),
  object: Word(['model']),
  deleted: Type.Boolean(),
})
const ModelQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: modelsListedMax, default: modelsListedMax }),
    after: Type.Optional(
      Type.String({ maxLength: prefixReferenceMax, description: 'The last model of the page before.' }),
    ),
  },
  { additionalProperties: false },
)
const ModelParams = Type.Object({ model: Type.String() })

export function modelRoutes(parts: HttpParts, { metrics }: Pick<Shared, 'metrics'>): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/models',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'openaiListModels',
          summary: 'List the models to generate with',
          tags: ['openai'],
          querystring: ModelQuery,
          response: { 200: ModelList, ...openaiErrors(400, 404, 503) },
        },
      },
      async ({ query: { limit, after } }) => {
        const { data, hasMore } = await listReady(parts, limit, after)
        const bare = after === undefined ? [bareModel(parts)] : []
        return { object: 'list' as const, data: [...bare, ...data.map(toModel)], has_more: hasMore }
      },
    )

    app.get(
      '/models/:model',
      {
        schema: {
          operationId: 'openaiGetModel',
          summary: 'Look at a model',
          tags: ['openai'],
          params: ModelParams,
          response: { 200: Model, ...openaiErrors(400, 404, 503) },
        },
      },
      async ({ params }) => {
        const record = await findModel(params.model, parts)
        return record === null ? bareModel(parts) : toModel(record)
      },
    )

    app.delete(
      '/models/:model',
      {
        schema: {
          operationId: 'openaiDeleteModel',
          summary: 'Delete the prefix that is this model',
          tags: ['openai'],
          params: ModelParams,
          response: { 200: ModelDeleted, ...openaiErrors(400, 404, 503, 507) },
        },
      },
      async ({ params }) => {
        const record = await findModel(params.model, parts)
        if (record === null) throw notSupported('model', `${params.model} is the bare model, which cannot be deleted`)
        await deletePrefix(record.id, { ...parts, metrics })
        return { id: modelIdOf(record), object: 'model' as const, deleted: true }
      },
    )
  }
}

/** null: the bare model, whose name goes before that of a prefix. Throws `prefix_not_found` or `prefix_not_ready`. */
export async function findModel(asked: string, { registry, model }: HttpParts): Promise<PrefixRecord | null> {
  if (asked === model.name) return null
  try {
    return await registry.findReady(asked)
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error
    const words =
      error.code === 'prefix_not_found' ? `; GET /v1/models lists them, the bare model is ${model.name}` : ''
    throw new ServiceError(error.code, error.message + words, { ...error.details, param: 'model' }, { cause: error })
  }
}

/** What OpenAI's interface calls a prefix. */
export function modelIdOf({ id, name, version }: Pick<PrefixRecord, 'id' | 'name' | 'version'>): string {
  return name === null ? id : `${name}@${version}`
}

/** Records that are not ready are passed over, page after page. */
async function listReady({ registry }: HttpParts, limit: number, after: string | undefined) {
  const data: PrefixRecord[] = []
  let cursor = after === undefined ? undefined : (await registry.find(after)).id
  for (;;) {
    const page = await registry.list({ limit: modelsListedMax, ...(cursor !== undefined && { cursor }) })
    for (const record of page.data) {
      if (record.status !== 'ready') continue
      if (data.length === limit) return { data, hasMore: true }
      data.push(record)
    }
    if (page.next === null) return { data, hasMore: false }
    cursor = page.next
  }
}

function bareModel({ model }: HttpParts) {
  return { id: model.name, object: 'model' as const, created: 0, owned_by: 'preamble' }
}

function toModel(record: PrefixRecord) {
  return {
    id: modelIdOf(record),
    object: 'model' as const,
    created: toSeconds(record.createdAt),
    owned_by: 'preamble',
  }
}

// Prefixes that are there: listed, looked at, fetched, deleted.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ServiceError } from '../../errors/errors.ts'
import type { Job, JobStatus } from '../../jobs/job.ts'
import { decodePrefix } from '../../prefix/artifact.ts'
import type { PrefixRecord, PrefixStatus } from '../../prefix/record.ts'
import type { Metrics } from '../metrics.ts'
import type { HttpParts } from '../parts.ts'
import { peftArchive } from '../peft-archive.ts'
import { ArtifactQuery, PrefixPage, PrefixParams, PrefixQuery, PrefixSchema } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { readNumbers } from '../validation.ts'

const Bytes = Type.Unsafe<Buffer>({ type: 'string', contentMediaType: 'application/octet-stream' })

export function prefixRoutes(parts: HttpParts, metrics: Metrics): FastifyPluginAsyncTypebox {
  const { registry } = parts
  return async (app) => {
    app.get(
      '/prefixes',
      {
        preValidation: readNumbers('limit'),
        schema: {
          operationId: 'listPrefixes',
          summary: 'List prefixes, the newest first',
          tags: ['prefixes'],
          querystring: PrefixQuery,
          response: { 200: PrefixPage, ...problems(400, 503) },
        },
      },
      async ({ query }) => {
        const { data, next } = await registry.list(query)
        return { data: data.map(toAnswer), next }
      },
    )

    app.get(
      '/prefixes/:idOrName',
      {
        schema: {
          operationId: 'getPrefix',
          summary: 'Look at a prefix',
          tags: ['prefixes'],
          params: PrefixParams,
          response: { 200: PrefixSchema, ...problems(404, 503) },
        },
      },
      async ({ params }) => toAnswer(await withJob(await registry.find(params.idOrName), parts)),
    )

    app.get(
      '/prefixes/:idOrName/artifact',
      {
        schema: {
          operationId: 'getArtifact',
          summary: 'Fetch the file of a prefix',
          description: 'A file that POST /prefixes/import takes. A bare name is its latest ready version.',
          tags: ['prefixes'],
          params: PrefixParams,
          querystring: ArtifactQuery,
          response: {
            200: {
              description: 'The file.',
              content: { 'application/octet-stream': { schema: Bytes }, 'application/zip': { schema: Bytes } },
            },
            ...problems(400, 404, 409, 422, 503),
          },
        },
      },
      async ({ params, query }, reply) => {
        const record = await registry.findReady(params.idOrName)
        const artifact = await registry.artifact(record)
        const asPeft = query.format === 'peft'
        const { buffer, byteOffset, byteLength } = asPeft
          ? peftArchive(decodePrefix(artifact), record.model.name)
          : artifact
        const filename = `${fileNameOf(record)}${asPeft ? '-peft.zip' : '.safetensors'}`
        return reply
          .type(asPeft ? 'application/zip' : 'application/octet-stream')
          .header('content-disposition', `attachment; filename="${filename}"`)
          .header('etag', `"${record.artifactSha256}${asPeft ? '-peft' : ''}"`)
          .send(Buffer.from(buffer, byteOffset, byteLength))
      },
    )

    app.delete(
      '/prefixes/:idOrName',
      {
        schema: {
          operationId: 'deletePrefix',
          summary: 'Delete a prefix',
          description: 'Cancels its training first. Requests in flight finish. Its version is never given again.',
          tags: ['prefixes'],
          params: PrefixParams,
          response: { 204: { type: 'null', description: 'It is gone.' }, ...problems(404, 503, 507) },
        },
      },
      async ({ params }, reply) => {
        await deletePrefix(params.idOrName, { ...parts, metrics })
        return reply.code(204).send(null)
      },
    )
  }
}

/** Its training is cancelled first. */
export async function deletePrefix(idOrName: string, parts: HttpParts & { readonly metrics: Metrics }): Promise<void> {
  const { registry, metrics } = parts
  const record = await registry.find(idOrName)
  if (isUnderWay(record)) await cancelQuietly(record, parts)
  await registry.delete(record.id)
  metrics.forgetPrefix(record.id)
}

function isUnderWay({ status }: PrefixRecord): boolean {
  return status === 'queued' || status === 'training'
}

/** A job that has gone or ended meanwhile is what was wanted. */
async function cancelQuietly({ jobId }: PrefixRecord, { queue }: HttpParts): Promise<void> {
  if (jobId === null) return
  try {
    await queue.cancel(jobId)
  } catch (error) {
    const code = error instanceof ServiceError ? error.code : null
    if (code !== 'job_not_found' && code !== 'job_finished') throw error
  }
}

const statusOfJob: Readonly<Record<Exclude<JobStatus, 'succeeded'>, PrefixStatus>> = {
  queued: 'queued',
  running: 'training',
  failed: 'failed',
  cancelled: 'cancelled',
}

/** While it is trained the job knows more than the record; without the queue the record has to do. */
async function withJob(record: PrefixRecord, { queue, logger }: HttpParts): Promise<PrefixRecord> {
  if (!isUnderWay(record) || record.jobId === null) return record
  let job: Job | null
  try {
    job = await queue.get(record.jobId)
  } catch (err) {
    logger.warn({ err, prefix: record.id }, 'the job of a prefix could not be read')
    return record
  }
  // Of a job that succeeded the record is about to tell.
  if (job === null || job.status === 'succeeded') return record
  const { progress } = job
  const { step, steps, loss, validationLoss } = progress !== null && 'step' in progress ? progress : record
  return { ...record, status: statusOfJob[job.status], step, steps, loss, validationLoss, error: job.error }
}

/** Name and version, or the id where there is no name. */
function fileNameOf({ id, name, version }: PrefixRecord): string {
  return name === null ? id : `${name}-${version}`
}

/** The same; schemas have no word for what is read only. */
export function toAnswer(record: PrefixRecord) {
  const { dataset, fineTuning, metrics, samples, training } = record
  return {
    ...record,
    dataset,
    metrics: { ...metrics },
    samples: [...samples],
    training: { ...training },
    fineTuning: fineTuning && { ...fineTuning, metadata: fineTuning.metadata && { ...fineTuning.metadata } },
  }
}

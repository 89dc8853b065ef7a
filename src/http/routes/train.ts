// POST /prefixes: examples are stored, the prefix is recorded, and its training is put in line.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ServiceError } from '../../errors/errors.ts'
import { createJobId } from '../../jobs/job.ts'
import { checkExamples, type StoredDataset } from '../../prefix/datasets.ts'
import type { PrefixRecord } from '../../prefix/record.ts'
import type { HttpParts } from '../parts.ts'
import { Accepted, TrainBody } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { type FieldError, invalidFields, templateError } from '../validation.ts'

export function trainRoutes(parts: HttpParts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/prefixes',
      {
        schema: {
          operationId: 'trainPrefix',
          summary: 'Train a prefix from examples',
          description: 'Answers once the training is in line; the job named in Location tells how it goes.',
          tags: ['prefixes'],
          body: TrainBody,
          response: {
            202: {
              description: 'The training is in line.',
              headers: { location: { type: 'string', description: 'The job.' } },
              content: { 'application/json': { schema: Accepted } },
            },
            ...problems(400, 404, 413, 415, 422, 503, 507),
          },
        },
      },
      async (request, reply) => {
        const { id, name, version, status, jobId } = await startTraining(request.body, parts)
        return reply.code(202).header('location', `/jobs/${jobId}`).send({ id, name, version, status, jobId })
      },
    )
  }
}

async function startTraining(body: TrainBody, parts: HttpParts): Promise<PrefixRecord & { jobId: string }> {
  const { registry, queue, model } = parts
  checkFields(body, model.positionsMax)
  const heldOut = Array.isArray(body.validation) ? checkHeldOut(body.validation) : body.validation
  const dataset = await storeExamples(body, parts)
  const validation = typeof heldOut === 'number' ? heldOut : (await parts.datasets.put(heldOut)).id
  const jobId = createJobId()
  const { name, template, training } = body
  const { prefixLength } = training
  const record = await registry.create({
    name,
    jobId,
    template,
    prefixLength,
    training,
    dataset,
    validation,
    model: { name: model.name, sha256: model.sha256 },
    tokenizerSha256: model.tokenizerSha256,
  })
  try {
    await queue.enqueue(jobId, {
      prefixId: record.id,
      datasetId: dataset.id,
      validation,
      template,
      options: training,
    })
  } catch (error) {
    await markFailed(record.id, error, parts)
    throw error
  }
  return { ...record, jobId }
}

function checkFields({ examples, dataset, template, training }: TrainBody, positionsMax: number): void {
  const errors: FieldError[] = []
  if ((examples === undefined) === (dataset === undefined)) {
    const received = examples === undefined ? 'neither' : 'both'
    errors.push({ pointer: '', expected: 'either examples or dataset', received })
  }
  const badTemplate = templateError(template)
  if (badTemplate !== null) errors.push(badTemplate)
  if (training.prefixLength >= positionsMax) {
    const expected = `less than the ${positionsMax} positions of the model`
    errors.push({ pointer: '/training/prefixLength', expected, received: String(training.prefixLength) })
  }
  if (errors.length > 0) throw invalidFields(errors)
}

function checkHeldOut(examples: readonly unknown[]) {
  try {
    return checkExamples(examples)
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error
    const details = { ...error.details, field: 'validation' }
    throw new ServiceError(error.code, `validation: ${error.message}`, details, { cause: error })
  }
}

async function storeExamples({ examples, dataset }: TrainBody, { datasets }: HttpParts): Promise<StoredDataset> {
  if (examples !== undefined) return datasets.put(checkExamples(examples))
  // The same examples give the same dataset: this counts them, and fails here where there is none.
  return datasets.put(await datasets.get(dataset ?? ''))
}

/** Nobody will train it: a record that went on saying `queued` would be waited for without end. */
async function markFailed(id: string, cause: unknown, { registry, logger }: HttpParts): Promise<void> {
  const { code, message } = cause instanceof ServiceError ? cause : { code: 'internal', message: 'it was not queued' }
  try {
    await registry.update(id, { status: 'failed', error: { code, detail: message } })
  } catch (err) {
    logger.error({ err, prefix: id }, 'a prefix that was not queued could not be marked as failed')
  }
}

// POST /prefixes: examples are stored, the prefix is recorded, and its training is put in line.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ServiceError } from '../../errors/errors.ts'
import { createJobId, startingLabel, type TrainJobData } from '../../jobs/job.ts'
import { checkExamples, type StoredDataset } from '../../prefix/datasets.ts'
import type { FineTuningRequest, PrefixRecord } from '../../prefix/record.ts'
import { defaultTemplate } from '../../prefix/template.ts'
import { optionConflicts } from '../../train/conflicts.ts'
import type { TrainingOptions } from '../../train/options.ts'
import { prefixLengthDefault } from '../../train/plan.ts'
import type { HttpParts } from '../parts.ts'
import type { Observations } from '../request-log.ts'
import { Accepted, TrainBody } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { type FieldError, invalidFields, templateError } from '../validation.ts'

export function trainRoutes(parts: HttpParts, observations: Observations): FastifyPluginAsyncTypebox {
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
            ...problems(400, 404, 409, 413, 415, 422, 503, 507),
          },
        },
      },
      async (request, reply) => {
        const trace = observations.traceOf(request)
        const { id, name, version, status, jobId } = await startTraining(request.body, parts, trace)
        return reply.code(202).header('location', `/jobs/${jobId}`).send({ id, name, version, status, jobId })
      },
    )
  }
}

/** `fineTuning` is kept in the record: what OpenAI's interface was asked with. */
export async function startTraining(
  body: TrainBody,
  parts: HttpParts,
  trace: Pick<TrainJobData, 'traceparent'>,
  fineTuning: FineTuningRequest | null = null,
): Promise<PrefixRecord & { jobId: string }> {
  const { registry, queue, model } = parts
  const source = body.from === null ? null : await findSource(body.from, parts)
  const asked = askedOf(body, source)
  checkFields(body, asked, model.positionsMax)
  const { name } = body
  const { template, options } = asked
  const { prefixLength } = options
  const heldOut = Array.isArray(body.validation) ? checkHeldOut(body.validation) : body.validation
  const dataset = await storeExamples(body, parts)
  const validation = typeof heldOut === 'number' ? heldOut : (await parts.datasets.put(heldOut)).id
  const jobId = createJobId()
  const from = source && { prefixId: source.id, artifactSha256: source.artifactSha256 }
  const record = await registry.create({
    name,
    jobId,
    template,
    prefixLength: prefixLength ?? prefixLengthDefault,
    training: { ...options, ...(from && { from: startingLabel(from.prefixId, from.artifactSha256) }) },
    dataset,
    validation,
    fineTuning,
    model: { name: model.name, sha256: model.sha256 },
    tokenizerSha256: model.tokenizerSha256,
  })
  try {
    await queue.enqueue(jobId, {
      prefixId: record.id,
      datasetId: dataset.id,
      validation,
      template,
      options,
      from,
      ...trace,
    })
  } catch (error) {
    await markFailed(record.id, error, parts)
    throw error
  }
  return { ...record, jobId }
}

type Source = PrefixRecord & { readonly artifactSha256: string }

/** The prefix to start from. Throws `prefix_not_found`, `prefix_not_ready`, or `prefix_model_mismatch` naming both sides. */
async function findSource(reference: string, { registry, model }: HttpParts): Promise<Source> {
  const record = await registry.findReady(reference)
  const sides = [
    ['modelSha256', record.model.sha256, model.sha256, `the model ${record.model.name}`],
    ['tokenizerSha256', record.tokenizerSha256, model.tokenizerSha256, 'the tokenizer'],
  ] as const
  for (const [field, theirs, ours, what] of sides) {
    if (theirs === ours) continue
    const message = `from: the prefix ${reference} was trained for ${what} with sha256 ${theirs}, this service runs ${model.name}, ${ours}`
    throw new ServiceError('prefix_model_mismatch', message, { field, prefix: theirs, model: ours })
  }
  return record as Source // What is ready has an artifact.
}

interface Asked {
  readonly template: string
  readonly options: TrainingOptions
  readonly source: Source | null
}

/** What is left out follows the prefix that the training starts from. */
function askedOf({ template, training }: TrainBody, source: Source | null): Asked {
  const prefixLength = training.prefixLength ?? source?.prefixLength ?? null
  return { template: template ?? source?.template ?? defaultTemplate, options: { ...training, prefixLength }, source }
}

function checkFields(
  { examples, dataset }: Pick<TrainBody, 'examples' | 'dataset'>,
  { template, options, source }: Asked,
  positionsMax: number,
): void {
  const errors: FieldError[] = []
  if ((examples === undefined) === (dataset === undefined)) {
    const received = examples === undefined ? 'neither' : 'both'
    errors.push({ pointer: '', expected: 'either examples or dataset', received })
  }
  const badTemplate = templateError(template)
  if (badTemplate !== null) errors.push(badTemplate)
  const { prefixLength, variant } = options
  if (prefixLength !== null && prefixLength >= positionsMax) {
    const expected = `less than the ${positionsMax} positions of the model`
    errors.push({ pointer: '/training/prefixLength', expected, received: String(prefixLength) })
  }
  if (source !== null && prefixLength !== source.prefixLength) {
    const expected = `the ${source.prefixLength} virtual tokens of ${source.id}, which it starts from`
    errors.push({ pointer: '/training/prefixLength', expected, received: String(prefixLength) })
  }
  if (source !== null && variant === 'embedding') {
    errors.push({ pointer: '/training/variant', expected: 'prefix, where a training has a `from`', received: variant })
  }
  for (const { option, expected, received } of optionConflicts(options)) {
    errors.push({ pointer: `/training/${option}`, expected, received })
  }
  if (errors.length > 0) throw invalidFields(errors)
  if (variant !== 'infix') return
  const message = 'an infix cannot be served: it stands between prompt and output, where the engine puts nothing'
  throw new ServiceError('not_supported', message, { supported: ['prefix', 'embedding'] })
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

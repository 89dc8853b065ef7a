// Jobs and their events as OpenAI's clients see them.
import { ServiceError } from '../../errors/errors.ts'
import type { Job, JobEvent } from '../../jobs/job.ts'
import type { PrefixRecord } from '../../prefix/record.ts'
import { trainingDefaults } from '../../train/options.ts'
import type { HttpParts } from '../parts.ts'
import type { FineTuningEvent, FineTuningJob } from './fine-tuning-schemas.ts'
import { toHyperparameters } from './hyperparameters.ts'
import { modelIdOf } from './models.ts'
import { toSeconds } from './seconds.ts'

/** null: it was deleted. */
export async function recordOf({ prefixId }: Job, { registry }: HttpParts): Promise<PrefixRecord | null> {
  try {
    return await registry.find(prefixId)
  } catch (error) {
    if (error instanceof ServiceError && error.code === 'prefix_not_found') return null
    throw error
  }
}

/** Trainings that were asked for by POST /prefixes are jobs too; their files are datasets. */
export function toFineTuningJob(job: Job, record: PrefixRecord | null, { model }: HttpParts): FineTuningJob {
  const { id, status, createdAt, finishedAt, error } = job
  const asked = record?.fineTuning ?? null
  const training = record?.training ?? {}
  const hyperparameters = toHyperparameters(training, asked?.learningRateMultiplier ?? null)
  const { n_epochs, batch_size, learning_rate_multiplier } = hyperparameters
  const heldOut = typeof record?.validation === 'string' ? record.validation : null
  const succeeded = status === 'succeeded' && record !== null
  const { trainedTokens, seed } = training
  return {
    id,
    object: 'fine_tuning.job',
    model: asked?.model ?? record?.model.name ?? model.name,
    created_at: toSeconds(createdAt),
    finished_at: finishedAt === null ? null : toSeconds(finishedAt),
    estimated_finish: estimateOf(job),
    fine_tuned_model: succeeded ? modelIdOf(record) : null,
    organization_id: 'preamble',
    status,
    training_file: asked?.trainingFile ?? record?.dataset?.id ?? '',
    validation_file: asked === null ? heldOut : asked.validationFile,
    result_files: [],
    trained_tokens: succeeded && typeof trainedTokens === 'number' ? trainedTokens : null,
    seed: typeof seed === 'number' ? seed : trainingDefaults.seed,
    error: status === 'failed' && error !== null ? { code: error.code, message: error.detail, param: null } : null,
    hyperparameters: { n_epochs, batch_size, learning_rate_multiplier },
    method: { type: 'prefix', prefix: { hyperparameters, template: record?.template ?? null } },
    metadata: asked?.metadata ? { ...asked.metadata } : null,
    integrations: [],
  }
}

function estimateOf({ status, progress }: Job): number | null {
  return status === 'running' && progress !== null ? Math.round((Date.now() + progress.etaMs) / 1_000) : null
}

/**
 * The newest first, as their clients expect it; behind all the others the one that says that the job was made, which no
 * history has.
 */
export function toFineTuningEvents(
  job: Job,
  record: PrefixRecord | null,
  history: readonly JobEvent[],
): FineTuningEvent[] {
  const created = { id: 0, type: 'created' as const, data: { at: job.createdAt } }
  // Rows of an older version have no time of their own: that of the one before has to do.
  let atSeconds = toSeconds(job.createdAt)
  const events = [created, ...history].map((event): FineTuningEvent => {
    const { at } = event.data as { at?: unknown }
    if (typeof at === 'string') atSeconds = toSeconds(at)
    return {
      id: eventIdOf(job, event.id),
      object: 'fine_tuning.job.event',
      created_at: atSeconds,
      ...describe(event, job, record),
      type: event.type === 'progress' ? 'metrics' : 'message',
      data: event.type === 'progress' ? metricsOf(event.data) : { ...event.data },
    }
  })
  return events.reverse()
}

function eventIdOf({ id }: Job, number: number): string {
  return `ftevent-${id.replace(/^job_/, '')}-${number}`
}

type AnyEvent = Pick<JobEvent, 'data'> & { readonly type: JobEvent['type'] | 'created' }

function describe(
  { type, data }: AnyEvent,
  { id }: Job,
  record: PrefixRecord | null,
): Pick<FineTuningEvent, 'level' | 'message'> {
  const info = (message: string) => ({ level: 'info' as const, message })
  if (type === 'created') return info(`Created fine-tuning job: ${id}`)
  if (type === 'started')
    return info(
      data['attempt'] === 1
        ? 'The training has started'
        : `The training has started again, attempt ${String(data['attempt'])}`,
    )
  if (type === 'progress') return info(describeProgress(data))
  if (type === 'succeeded') {
    return info(`The training is done, new fine-tuned model: ${record === null ? 'deleted since' : modelIdOf(record)}`)
  }
  if (type === 'cancelled') return { level: 'warn', message: 'The training was cancelled' }
  const { code, detail } = (data['error'] ?? {}) as { code?: string; detail?: string }
  return { level: 'error', message: `The training failed: ${detail ?? 'for no known reason'} (${code ?? 'internal'})` }
}

function describeProgress({ step, steps, loss, validationLoss, choosing }: JobEvent['data']): string {
  const shown = (number: unknown): string => (typeof number === 'number' ? number.toFixed(4) : 'none')
  if (choosing !== undefined) {
    const { done, total } = choosing as { done: number; total: number }
    return `Choosing hyperparameters: ${done} of at most ${total} steps of the candidates`
  }
  const heldOut =
    validationLoss === null || validationLoss === undefined ? '' : `, validation loss=${shown(validationLoss)}`
  return `Step ${String(step)}/${String(steps)}: training loss=${shown(loss)}${heldOut}`
}

/** Theirs beside ours. */
function metricsOf(data: JobEvent['data']): Record<string, unknown> {
  const { step, steps, loss, validationLoss } = data
  return { ...data, step, total_steps: steps, train_loss: loss, valid_loss: validationLoss ?? null }
}

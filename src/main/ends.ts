// Keeps prefix records true to what became of their trainings: clients read them long after the queue has forgotten.
import type { Logger } from 'pino'
import { ServiceError } from '../errors/errors.ts'
import type { Checkpoints } from '../jobs/checkpoints.ts'
import type { JobQueue } from '../jobs/job.ts'
import type { JobEnd } from '../jobs/worker.ts'
import type { PrefixRecord } from '../prefix/record.ts'
import type { PrefixRegistry } from '../prefix/registry.ts'

/** Records looked at when the service starts, newest first. */
const lookedAtMax = 1_000
/** A record younger than this may have its job on the way into the queue. */
const lostAfterMs = 60_000

/** Writes a training's end into the record of its prefix. A prefix that was deleted meanwhile needs none. */
export function recordEnd(registry: Pick<PrefixRegistry, 'update'>, checkpoints: Pick<Checkpoints, 'delete'>): JobEnd {
  return async (jobId, prefixId, status, problem) => {
    if (status === 'succeeded') return
    await checkpoints.delete(jobId)
    await unlessDeleted(registry.update(prefixId, { status, error: status === 'failed' ? problem : null }))
  }
}

/** Marks as failed what waits for a job that the queue does not know: it was lost with the queue, or never got there. */
export async function failLostTrainings(
  registry: Pick<PrefixRegistry, 'list' | 'update'>,
  queue: Pick<JobQueue, 'get'>,
  log: Pick<Logger, 'warn'>,
): Promise<void> {
  const { data } = await registry.list({ limit: lookedAtMax })
  for (const record of data) {
    if (!isUnfinished(record) || Date.now() - Date.parse(record.createdAt) < lostAfterMs) continue
    if (record.jobId !== null && (await queue.get(record.jobId)) !== null) continue
    log.warn(
      { prefix: record.id, job: record.jobId },
      'the queue does not know this training; its prefix is marked as failed',
    )
    const error = {
      code: 'queue_unavailable',
      detail: `job ${record.jobId} is not in the queue; train the prefix again`,
    }
    await unlessDeleted(registry.update(record.id, { status: 'failed', error }))
  }
}

function isUnfinished({ status }: PrefixRecord): boolean {
  return status === 'queued' || status === 'training'
}

async function unlessDeleted(update: Promise<unknown>): Promise<void> {
  try {
    await update
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code !== 'prefix_not_found') throw error
  }
}

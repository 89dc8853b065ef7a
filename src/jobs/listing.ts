// Which jobs there are, newest first, a page at a time.
import type { JobType } from 'bullmq'
import { ServiceError } from '../errors/errors.ts'
import type { TrainQueue } from './broker.ts'
import type { Job, JobPage, JobQueue, JobStatus } from './job.ts'
import { describeJob, type QueueState } from './status.ts'

const listedJobsMax = 100

/** The queue's states in the order a job goes through them, so that one that moves meanwhile is seen at least once. */
const states: readonly { readonly state: QueueState; readonly types: readonly JobType[] }[] = [
  { state: 'waiting', types: ['waiting', 'prioritized', 'delayed'] },
  { state: 'active', types: ['active'] },
  { state: 'failed', types: ['failed'] },
  { state: 'completed', types: ['completed'] },
]

/** Cancelled jobs are told from others by what they carry, not by where the queue keeps them. */
const statesOf: Readonly<Record<JobStatus, readonly QueueState[]>> = {
  queued: ['waiting'],
  running: ['active'],
  succeeded: ['completed'],
  failed: ['failed'],
  cancelled: ['waiting', 'active', 'failed'],
}

/** Ids come from one query a state and only the jobs of the page are read: their number is limited, not small. */
export async function listJobs(queue: TrainQueue, query: Parameters<JobQueue['list']>[0]): Promise<JobPage> {
  const { status, cursor } = query
  const limit = Math.min(Math.max(1, query.limit), listedJobsMax)
  if (cursor !== undefined && !/^job_[0-9a-z]{1,64}$/.test(cursor)) {
    throw new ServiceError('invalid_request', `cursor ${JSON.stringify(cursor)} is not the \`next\` of a page of jobs`)
  }
  const stateOfId = await readIds(queue, status)
  const ids = [...stateOfId.keys()].filter((id) => cursor === undefined || id > cursor)
  ids.sort((a, b) => (a < b ? -1 : 1))
  const data: Job[] = []
  for (let start = 0; start < ids.length; start += limit) {
    const page = ids.slice(start, start + limit)
    const jobs = await Promise.all(page.map((id) => queue.getJob(id)))
    for (const job of jobs) {
      // Gone since the ids were read: old jobs make room for new ones.
      if (job === undefined) continue
      const described = describeJob(job, stateOfId.get(job.id ?? '') ?? 'waiting')
      if (status !== undefined && described.status !== status) continue
      if (data.length === limit) return { data, next: data.at(-1)?.id ?? null }
      data.push(described)
    }
  }
  return { data, next: null }
}

async function readIds(queue: TrainQueue, status: JobStatus | undefined): Promise<Map<string, QueueState>> {
  const stateOfId = new Map<string, QueueState>()
  for (const { state, types } of states) {
    if (status !== undefined && !statesOf[status].includes(state)) continue
    for (const id of await queue.getRanges([...types], 0, -1)) stateOfId.set(id, state)
  }
  return stateOfId
}

// Where a training left off, kept in the object store under the id of its job.
import type { ObjectStore } from '../store/store.ts'

export interface Checkpoints {
  /** null: the job starts at the beginning. */
  get(jobId: string): Promise<Uint8Array | null>
  put(jobId: string, checkpoint: Uint8Array): Promise<void>
  delete(jobId: string): Promise<void>
}

export function createCheckpoints(store: ObjectStore): Checkpoints {
  return {
    get: (jobId) => store.get(keyOf(jobId)),
    put: (jobId, checkpoint) => store.put(keyOf(jobId), checkpoint),
    delete: (jobId) => store.delete(keyOf(jobId)),
  }
}

function keyOf(jobId: string): string {
  return `checkpoints/${jobId}`
}

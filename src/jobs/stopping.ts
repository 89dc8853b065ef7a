// What a job ends with when it is told to stop before it is done.
import { ServiceError } from '../errors/errors.ts'
import type { StopReason } from './job.ts'

/** Name of the error that a run ends with when its job is to go back to the queue. Names survive process boundaries. */
export const handedBack = 'HandedBack'

export function stopError(reason: StopReason): Error {
  if (reason === 'cancelled') return new ServiceError('cancelled', 'the job was cancelled')
  if (reason === 'shutdown') {
    return Object.assign(new Error('the worker is stopping: the job goes back to the queue'), { name: handedBack })
  }
  // Another worker may have the job by now, and checkpoints of its own.
  return new Error(reason)
}

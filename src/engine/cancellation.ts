// Waiting that ends when the one who waits goes away.
import { ServiceError } from '../errors/errors.ts'

export function cancelledError(): ServiceError {
  return new ServiceError('cancelled', 'the request was cancelled')
}

/** As `promise`, but throws `cancelled` once `signal` aborts; the promise itself goes on, and its failure is nobody's. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {})
    throw cancelledError()
  }
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(cancelledError())
    signal.addEventListener('abort', abort, { once: true })
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

// Work that must be done by a time: a signal that fires then, and an error that says so.
import { ServiceError } from '../errors/errors.ts'

/** As `make`, but ends with `deadline_exceeded` after `deadlineMs`. Whatever `make` holds it must free when its signal aborts. */
export async function* withinDeadline<T>(
  deadlineMs: number,
  signal: AbortSignal,
  make: (signal: AbortSignal) => AsyncGenerator<T, void>,
): AsyncGenerator<T, void> {
  const inner = new AbortController()
  const abort = (): void => inner.abort()
  let over = false
  const timer = setTimeout(() => {
    over = true
    abort()
  }, deadlineMs)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  try {
    yield* make(inner.signal)
  } catch (error) {
    if (over && error instanceof ServiceError && error.code === 'cancelled') {
      const message = `the request was not done within its deadline of ${deadlineMs} ms`
      throw new ServiceError('deadline_exceeded', message, { deadlineMs })
    }
    throw error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}

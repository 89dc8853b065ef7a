// Errors as plain data, for those that go from one thread to another.
import { type ErrorCode, ServiceError } from './errors.ts'

/** A ServiceError in plain data: structured clone would keep neither class nor code. */
export interface WireError {
  readonly code: ErrorCode
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
  /** For the log, never for a client. */
  readonly stack: string
}

/** Anything but a ServiceError is a failure of the engine. */
export function toWire(error: unknown): WireError {
  const stack = stackOf(error)
  if (!(error instanceof ServiceError)) {
    const message = `the engine failed: ${error instanceof Error ? error.message : String(error)}`
    return { code: 'engine_failed', message, details: {}, stack }
  }
  // Details are JSON for the client anyway, and what is JSON can be posted.
  const details = JSON.parse(JSON.stringify(error.details)) as Record<string, unknown>
  return { code: error.code, message: error.message, details, stack }
}

/** The stack of the other thread is the cause. */
export function fromWire({ code, message, details, stack }: WireError): ServiceError {
  const cause = new Error(message)
  cause.stack = stack
  return new ServiceError(code, message, { ...details }, { cause })
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = error.stack ?? error.message
  return error.cause === undefined ? own : `${own}\ncaused by ${stackOf(error.cause)}`
}

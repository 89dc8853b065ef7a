// What the main thread and the engine's worker thread say to each other.
import { type ErrorCode, ServiceError } from '../errors/errors.ts'
import type { PlayingModel } from '../prefix/artifact.ts'
import type { RuntimeInfo } from '../runtime/open.ts'
import type { GenerateEvent, GenerateRequest } from './request.ts'
import type { Account } from './stopwatch.ts'

/** Requests are numbered by the main thread; events carry the number. */
export type ToWorker =
  | { readonly type: 'generate'; readonly id: number; readonly request: GenerateRequest }
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'figures'; readonly id: number }
  | { readonly type: 'close' }

/** `ready` or `unable` comes first, once, after warnings and notes. A request ends with its `done` event or with `failed`, and these have its account. */
export type FromWorker =
  | { readonly type: 'ready'; readonly model: ResidentModel }
  | { readonly type: 'unable'; readonly error: WireError }
  /** For the log; before `ready`. */
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'note'; readonly message: string }
  | { readonly type: 'event'; readonly id: number; readonly event: GenerateEvent; readonly account: Account | null }
  | { readonly type: 'failed'; readonly id: number; readonly error: WireError; readonly account: Account | null }
  | { readonly type: 'figures'; readonly id: number; readonly text: string }

/** The model that the worker holds. */
export interface ResidentModel extends PlayingModel {
  readonly vocabulary: number
  /** What computes it. */
  readonly runtime: RuntimeInfo
}

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

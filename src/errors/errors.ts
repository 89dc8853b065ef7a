// What the service answers when it cannot do what was asked. Anything else that throws is a bug.

/** Stable names: clients match on them, so a code is never renamed and never reused. */
export type ErrorCode =
  | 'invalid_request'
  | 'unauthorized'
  | 'route_not_found'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'prefix_not_found'
  | 'prefix_not_ready'
  | 'prefix_model_mismatch'
  | 'prefix_invalid'
  | 'dataset_not_found'
  | 'examples_invalid'
  | 'input_too_long'
  | 'not_supported'
  | 'job_not_found'
  | 'job_finished'
  | 'cancelled'
  | 'deadline_exceeded'
  | 'training_diverged'
  | 'model_invalid'
  | 'config_invalid'
  | 'engine_failed'
  | 'overloaded'
  | 'queue_unavailable'
  | 'store_unavailable'
  | 'store_full'

/** An error that a client can act on. `details` are merged into the problem document. */
export class ServiceError extends Error {
  readonly code: ErrorCode
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, details: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ServiceError'
    this.code = code
    this.details = details
  }
}

// What the main thread and the engine's worker say to each other.
import type { WireError } from '../errors/wire.ts'
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

// What can be asked of the engine, and what it answers.
import type { Prefix } from '../prefix/prefix.ts'

export interface Decoding {
  readonly strategy: 'greedy' | 'sample'
  /** All below are for `sample` but the repetition penalty and n, which both take. */
  readonly temperature: number
  /** 0: off. */
  readonly topK: number
  readonly topP: number
  readonly repetitionPenalty: number
  /** Continuations of each input. */
  readonly n: number
}

export interface GenerateRequest {
  /** Id of a stored prefix; null is the bare model. */
  readonly prefixId: string | null
  readonly inputs: readonly string[]
  /** Instead of the prefix's own, or of the default where there is no prefix. */
  readonly template?: string
  readonly maxNewTokens: number
  /** Texts that end a generation; they are not part of its text. */
  readonly stop: readonly string[]
  /** null: drawn at random. The same seed gives the same texts, alone or in any batch. */
  readonly seed: number | null
  readonly decoding: Decoding
  readonly logprobs: boolean
  /** Whom the tokens are charged to, so that the line is fair; any string, the same for the same caller. */
  readonly client?: string
  /** Ends with `deadline_exceeded` so many ms after it came, waiting or running. */
  readonly deadlineMs?: number
}

export type FinishReason = 'stop' | 'length'

export interface Output {
  readonly text: string
  readonly finishReason: FinishReason
  /** Tokens made, the end-of-text token included. */
  readonly tokens: number
  /** Log-probability of each token made (before temperature and filters), in nats. */
  readonly logprobs?: readonly number[]
}

export interface Usage {
  readonly prefixTokens: number
  readonly inputTokens: number
  readonly outputTokens: number
}

/** `token` events carry text pieces of output `index` (input · n + sample); one `done` ends the stream. */
export type GenerateEvent =
  | { readonly type: 'token'; readonly index: number; readonly text: string }
  | { readonly type: 'done'; readonly outputs: readonly Output[]; readonly usage: Usage }

/** Gives the engine a prefix by id; throws `prefix_not_found`, `prefix_invalid` or `prefix_model_mismatch`. */
export type PrefixLoader = (prefixId: string) => Promise<Prefix>

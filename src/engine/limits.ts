// What an engine may take at most.

export interface EngineLimits {
  /** Sequences in line for a row; a request that does not fit whole is refused. */
  readonly waitingMax: number
  /** Prompt tokens of one step, padding included; fewer while other rows decode. */
  readonly prefillTokensMax: number
  /** Keys and values of resident prefixes. */
  readonly prefixBytesMax: number
  /** Tokens that a row tries in a step beside its last one, where that makes more of them in a time; 0: none. */
  readonly draftTokensMax: number
}

export const defaultLimits: EngineLimits = {
  waitingMax: 256,
  prefillTokensMax: 256,
  prefixBytesMax: 512 * 2 ** 20,
  draftTokensMax: 7,
}

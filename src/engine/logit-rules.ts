// The rules of a request for which tokens may come next, in token ids.
import { ServiceError } from '../errors/errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Decoding } from './request.ts'

export interface LogitRules {
  readonly bias: ReadonlyMap<number, number>
  readonly repetitionPenalty: number
  /** 0: off. */
  readonly noRepeatNgramSize: number
  /** Sequences that must not come out; of one token or more. */
  readonly banned: readonly (readonly number[])[]
  readonly minNewTokens: number
  readonly endOfText: number
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  /** null: the model forces none. */
  readonly forced: ForcedTokens | null
}

/** Tokens that come whatever the logits; null: none does. */
export interface ForcedTokens {
  readonly first: number | null
  /** Where the length ends a text. */
  readonly last: number | null
  readonly maxNewTokens: number
}

/** What stands before the next token. */
export interface History {
  readonly prompt: readonly number[]
  /** Made so far. */
  readonly output: readonly number[]
}

/** null: every token may come, as it is. Throws `invalid_request` where a token id is none of the tokenizer's. */
export function rulesOf(
  decoding: Decoding,
  minNewTokens: number,
  tokenizer: Pick<Tokenizer, 'encode' | 'endOfText' | 'vocabulary'>,
  forcedTokens: ForcedTokens = { first: null, last: null, maxNewTokens: Infinity },
): LogitRules | null {
  const { repetitionPenalty, noRepeatNgramSize, presencePenalty, frequencyPenalty } = decoding
  const { endOfText, vocabulary } = tokenizer
  // A word has other tokens at the beginning of a text than behind a space.
  const texts = decoding.bannedTexts.flatMap((text) => [tokenizer.encode(text), tokenizer.encode(` ${text}`)])
  const given = [...decoding.bannedTokens, ...texts].filter(({ length }) => length > 0)
  const bias = new Map(Object.entries(decoding.logitBias).map(([token, value]) => [Number(token), value]))
  for (const [field, tokens] of Object.entries({ logitBias: [...bias.keys()], bannedTokens: given.flat() })) {
    const unknown = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary)
    if (unknown === undefined) continue
    const message = `decoding.${field} has the token ${unknown}; the tokenizer has the tokens 0 to ${vocabulary - 1}`
    throw new ServiceError('invalid_request', message, { field: `decoding.${field}` })
  }
  // As in transformers, which lets nobody ban the end of a text: minNewTokens and logitBias are there for that.
  const banned = given.filter((sequence) => sequence.length > 1 || sequence[0] !== endOfText)
  const forced = forcedTokens.first === null && forcedTokens.last === null ? null : forcedTokens
  const nothing =
    forced === null &&
    bias.size === 0 &&
    repetitionPenalty === 1 &&
    noRepeatNgramSize === 0 &&
    banned.length === 0 &&
    minNewTokens === 0 &&
    presencePenalty === 0 &&
    frequencyPenalty === 0
  if (nothing) return null
  const penalties = { repetitionPenalty, presencePenalty, frequencyPenalty }
  return { bias, noRepeatNgramSize, banned, minNewTokens, endOfText, forced, ...penalties }
}

/** The token that comes next whatever the logits; null: there is none. */
export function forcedToken({ forced }: LogitRules, { output }: History): number | null {
  if (forced === null) return null
  const { first, last, maxNewTokens } = forced
  if (last !== null && output.length === maxNewTokens - 1) return last
  return output.length === 0 ? first : null
}

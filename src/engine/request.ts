// What can be asked of the engine, and what it answers.
import type { Prefix } from '../prefix/prefix.ts'

export interface Decoding {
  readonly strategy: 'greedy' | 'sample' | 'beam'
  /** This and the filters below it, in the order in which they are applied, are for `sample`. */
  readonly temperature: number
  /** Keeps so many tokens; 0: off. */
  readonly topK: number
  /** Keeps the most probable tokens of this probability together; 1: off. */
  readonly topP: number
  /** Keeps tokens so many times as probable as the most probable one; 0: off. */
  readonly minP: number
  /** Keeps the tokens of this probability together whose information is nearest to the entropy; 1: off. */
  readonly typicalP: number
  /** Of tokens in prompt or output; 1: off. */
  readonly repetitionPenalty: number
  /** Of tokens in the output, once; 0: off. */
  readonly presencePenalty: number
  /** Of tokens in the output, for each time; 0: off. */
  readonly frequencyPenalty: number
  /** So many tokens in a row come once, the prompt's included; 0: off. */
  readonly noRepeatNgramSize: number
  /** Texts that must not come out as the tokens that the tokenizer makes of them, at a beginning or behind a space. */
  readonly bannedTexts: readonly string[]
  /** Sequences of token ids that must not come out. */
  readonly bannedTokens: readonly (readonly number[])[]
  /** Added to the logits of tokens, by id. */
  readonly logitBias: Readonly<Record<string, number>>
  /** Texts answered for each input. */
  readonly n: number
  /** Texts made for each input: the `n` of the highest mean log-probability are answered, the best first, once all are there. */
  readonly bestOf: number
  /** The rest is for `beam`. */
  readonly beams: number
  readonly lengthPenalty: number
  readonly earlyStopping: boolean | 'never'
}

/** The most probable token each time, and nothing else: what a request changes it changes in this. */
export const greedy: Decoding = {
  strategy: 'greedy',
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  noRepeatNgramSize: 0,
  bannedTexts: [],
  bannedTokens: [],
  logitBias: {},
  n: 1,
  bestOf: 1,
  // As in the paper's experiments (Li & Liang 2021, section 5.3), and transformers' defaults.
  beams: 5,
  lengthPenalty: 1,
  earlyStopping: false,
}

export interface GenerateRequest {
  /** Id of a stored prefix; null is the bare model. */
  readonly prefixId: string | null
  readonly inputs: readonly string[]
  /** Instead of the prefix's own, or of the default where there is no prefix. */
  readonly template?: string
  readonly maxNewTokens: number
  /** End-of-text does not come before so many tokens; a stop text may. None where it is left out. */
  readonly minNewTokens?: number
  /** Texts that end a generation; they are not part of its text. */
  readonly stop: readonly string[]
  /** null: drawn at random. The same seed gives the same texts, alone or in any batch. */
  readonly seed: number | null
  readonly decoding: Decoding
  readonly logprobs: boolean
  /** Adds each token with its text, and so many alternatives, 0 or more; null and left out: off. */
  readonly topLogprobs?: number | null
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
  /** Each token made, with the alternatives asked for. */
  readonly topLogprobs?: readonly TokenScore[]
}

/** A token of the vocabulary; bytes that are no whole character are U+FFFD in its text. */
export interface Alternative {
  readonly id: number
  readonly text: string
  /** In nats, before rules, temperature and filters. */
  readonly logprob: number
}

export interface TokenScore extends Alternative {
  /** The most probable tokens in its place, the best first. */
  readonly top: readonly Alternative[]
}

export interface Usage {
  readonly prefixTokens: number
  readonly inputTokens: number
  /** All tokens made, those of texts that are not answered too. */
  readonly outputTokens: number
}

/**
 * `token` events carry text pieces of output `index` (input · n + sample), but where `bestOf` is more than `n`: nobody knows
 * before the end which texts are answered. One `done` ends the stream.
 */
export type GenerateEvent = TokenEvent | DoneEvent

interface TokenEvent {
  readonly type: 'token'
  readonly index: number
  readonly text: string
}

export interface DoneEvent {
  readonly type: 'done'
  readonly outputs: readonly Output[]
  readonly usage: Usage
}

/** Gives the engine a prefix by id; throws `prefix_not_found`, `prefix_invalid` or `prefix_model_mismatch`. */
export type PrefixLoader = (prefixId: string) => Promise<Prefix>

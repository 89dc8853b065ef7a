// A trained prefix: the past keys and values that stand for one task, and what they belong to.

/**
 * Where the keys and values are put in. GPT-2 has `decoder_self`, BART all but the last; `infix` stands between prompt and output, which no engine
 * plays: it is measured in trainings.
 */
export type Attachment = 'decoder_self' | 'encoder_self' | 'cross' | 'infix'

export interface AttachedLayers {
  readonly attachment: Attachment
  readonly layers: number
}

/** Where the layers of a prefix are put in. */
export function placesOf({ places, attachment, layers }: PrefixHeader): readonly AttachedLayers[] {
  return places ?? [{ attachment, layers }]
}

/** What a stored prefix must name, because playing it with another convention is wrong without any error. */
export interface PrefixHeader {
  /** Of the first layers; of all of them unless there are `places`. */
  readonly attachment: Attachment
  /** Of a prefix that is put in at several places: which they are, one's layers after the other's. */
  readonly places?: readonly AttachedLayers[]
  /** Position of the first token of text: P where the prefix shifts it (GPT-2), 0 where it does not. */
  readonly textPositionStart: number
  /** P, in virtual tokens. */
  readonly prefixLength: number
  /** Of all places together. */
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  readonly modelSha256: string
  readonly tokenizerSha256: string
  /** How an input becomes the prompt: `{input}` is replaced by the text. */
  readonly template: string
  /** How it was made: options as used, data, losses, code version. Plain JSON. */
  readonly training: Readonly<Record<string, unknown>>
}

export interface Prefix {
  readonly header: PrefixHeader
  /** [layers, heads, prefixLength, headDim] */
  readonly keys: Float32Array
  /** [layers, heads, prefixLength, headDim] */
  readonly values: Float32Array
}

// Examples as token ids: a prompt made by the template, then the output and the end-of-text token as targets.
import { ServiceError } from '../errors/errors.ts'
import { continuing, type Framing } from '../model/framing.ts'
import { promptOf } from '../prefix/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Example } from './options.ts'

export interface EncodedExample {
  /** What an encoder reads of the prompt; absent where the model has none. */
  readonly source?: readonly number[]
  /** What the decoder reads: prompt, or what stands for it, and output without the last target. */
  readonly tokens: readonly number[]
  /** What it must say: the output and end-of-text. Target j follows position `promptLength − 1 + j`. */
  readonly targets: readonly number[]
  readonly promptLength: number
}

export interface ExampleRoom {
  /** Positions that the decoder has beside the prefix. */
  readonly tokensMax: number
  /** Positions that the encoder has. */
  readonly sourceMax: number
}

/** Tokens that a model reads of an example. */
export const lengthOf = ({ tokens, source }: Pick<EncodedExample, 'tokens' | 'source'>): number =>
  tokens.length + (source?.length ?? 0)

/** Throws `input_too_long`, naming the example, where there is too little room. */
export function encodeExamples(
  tokenizer: Tokenizer,
  template: string,
  examples: readonly Example[],
  { tokensMax: most, sourceMax }: ExampleRoom,
  framing: Framing = continuing,
): EncodedExample[] {
  return examples.map(({ input, output }, index) => {
    const read = tokenizer.encode(promptOf(template, input))
    const [prompt, source] = [framing.opening(read), framing.source(read)]
    const targets = framing.target(tokenizer.encode(framing.gap + output), tokenizer.endOfText)
    const tokens = [...prompt, ...targets.slice(0, -1)]
    if (source !== null && source.length > sourceMax) {
      const message = `the input of example ${index + 1} comes to ${source.length} tokens, the model's encoder reads ${sourceMax}`
      const details = { example: index + 1, tokens: source.length, tokensMax: sourceMax }
      throw new ServiceError('input_too_long', message, details)
    }
    if (tokens.length > most) {
      const message = `example ${index + 1} comes to ${tokens.length} tokens (prompt ${prompt.length}, output ${targets.length}), beside the prefix there is room for ${most}`
      throw new ServiceError('input_too_long', message, { example: index + 1, tokens: tokens.length, tokensMax: most })
    }
    return { tokens, targets, promptLength: prompt.length, ...(source !== null && { source }) }
  })
}

// Examples as token ids: a prompt made by the template, then the output and the end-of-text token as targets.
import { ServiceError } from '../errors/errors.ts'
import { promptOf } from '../prefix/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Example } from './options.ts'

export interface EncodedExample {
  /** Prompt and output, without the last target: what the model reads. */
  readonly tokens: readonly number[]
  /** What it must say: the output and end-of-text. Target j follows position `promptLength − 1 + j`. */
  readonly targets: readonly number[]
  readonly promptLength: number
}

/** Throws `input_too_long`, naming the example, where `room` positions are too few. */
export function encodeExamples(
  tokenizer: Tokenizer,
  template: string,
  examples: readonly Example[],
  room: number,
): EncodedExample[] {
  return examples.map(({ input, output }, index) => {
    const prompt = tokenizer.encode(promptOf(template, input))
    const targets = [...tokenizer.encode(` ${output}`), tokenizer.endOfText]
    const tokens = [...prompt, ...targets.slice(0, -1)]
    if (tokens.length > room) {
      const message = `example ${index + 1} comes to ${tokens.length} tokens (prompt ${prompt.length}, output ${targets.length}), beside the prefix there is room for ${room}`
      throw new ServiceError('input_too_long', message, { example: index + 1, tokens: tokens.length, tokensMax: room })
    }
    return { tokens, targets, promptLength: prompt.length }
  })
}

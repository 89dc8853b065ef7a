// What a model reads and says around the tokens of a text.
import type { BartTokens } from './bart-config.ts'

export interface Framing {
  /** What comes between a prompt and an output in text. */
  readonly gap: string
  /** What the encoder reads of a prompt; null: there is none, and the decoder reads the prompt. */
  source(prompt: readonly number[]): readonly number[] | null
  /** What the decoder reads before it says anything. */
  opening(prompt: readonly number[]): readonly number[]
  /** All that is to be said for an output. */
  target(output: readonly number[], endOfText: number): readonly number[]
  /** How an input becomes a prompt where nobody says. */
  readonly template: string
  /** The last of all targets where the model itself says which that is; null: the tokenizer's end of text. */
  readonly end: number | null
  /** Said first and last whatever the logits; null: nothing. */
  readonly forcedFirst: number | null
  readonly forcedLast: number | null
}

/** One text: the output goes on from the prompt. */
export const continuing: Framing = {
  gap: ' ',
  source: () => null,
  opening: (prompt) => prompt,
  target: (output, endOfText) => [...output, endOfText],
  // The paper's form.
  template: ' {input} <|endoftext|>',
  end: null,
  forcedFirst: null,
  forcedLast: null,
}

/** Two texts, each between a begin and an end. */
export function answering({ begin, end, start, forcedFirst, forcedLast }: BartTokens): Framing {
  return {
    gap: '',
    source: (prompt) => [begin, ...prompt, end],
    opening: () => [start],
    target: (output) => [begin, ...output, end],
    template: '{input}',
    end,
    forcedFirst,
    forcedLast,
  }
}

// The infix, for comparison alone: keys and values between prompt and output (Li & Liang 2021, section 7.3).
import { int32, type Tensor } from '../tensor/tensor.ts'
import type { EncodedExample } from './encode.ts'

/**
 * Where the infix comes in: the prompt's last token is the first to see it, since it predicts the output's first. From here on
 * positions are shifted by P.
 */
export function infixStart({ promptLength }: Pick<EncodedExample, 'promptLength'>): number {
  return promptLength - 1
}

/** int32 [B, T]: none of the P positions before the infix comes in, all of them from there on. */
export function infixPastLengths(batch: readonly EncodedExample[], width: number, prefixLength: number): Tensor {
  const lengths = new Int32Array(batch.length * width)
  batch.forEach((example, b) => lengths.fill(prefixLength, b * width + infixStart(example), (b + 1) * width))
  return int32(lengths, [batch.length, width])
}

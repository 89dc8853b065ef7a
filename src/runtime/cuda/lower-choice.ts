// The choice of each row's next token behind the logits of a step: what is asked for goes in, tokens and how probable they are come out.
import type { ChosenToken, TokenChoice } from '../runtime.ts'
import { at, type Lowering } from './lowering.ts'
import { Storage, type View } from './steps.ts'

/** Beside the inputs and outputs of the graph. */
export const choicesInput = 'choices'
export const tokensOutput = 'tokens chosen'
export const logprobsOutput = 'their log-probabilities'

const threads = 1024
/** 1 / temperature at most: a difference of logits times it is a number, or infinite. */
const scaleMax = 3e38
/** The largest number below 1 in 24 bits. */
const belowOne = 1 - 2 ** -24

/** `logits`: [rows, vocabulary], contiguous. The last step, so that nothing takes the place of the logits before the host has fetched some. */
export function appendChoice(l: Lowering, logits: View, rows: number, vocabulary: number): void {
  const choices = new Storage(16 * rows, 'input')
  const [tokens, logprobs] = [new Storage(4 * rows, 'output'), new Storage(4 * rows, 'output')]
  l.inputs.set(choicesInput, choices)
  l.outputs.set(tokensOutput, tokens)
  l.outputs.set(logprobsOutput, logprobs)
  const weights = l.temporary(rows * vocabulary)
  const places = [weights, choices, tokens, logprobs].map((storage) => at({ storage, offset: 0 }))
  l.blocks('choose', [rows, 1, 1], threads, [at(logits), ...places, { int: vocabulary }], 4 * rows * vocabulary)
}

/** As the kernel's struct: scale, top-k, top-p and the random number of each row. */
export function packedChoices(choices: readonly (TokenChoice | null)[]): Float32Array {
  const packed = new Float32Array(4 * choices.length)
  const integers = new Int32Array(packed.buffer)
  choices.forEach((choice, row) => {
    if (choice === null) {
      packed[4 * row] = -1
      return
    }
    const { temperature, topK, topP, uniform } = choice
    packed[4 * row] = temperature === 0 ? 0 : Math.min(1 / temperature, scaleMax)
    integers[4 * row + 1] = topK
    packed[4 * row + 2] = topP
    packed[4 * row + 3] = Math.min(uniform, belowOne)
  })
  return packed
}

export function chosenToken(tokens: Int32Array, logprobs: Float32Array, row: number): ChosenToken {
  return { token: tokens[row] as number, logprob: logprobs[row] as number }
}

// From a request to the tokens of its prompts: what does not fit into the model is found here, before it takes a place.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServiceError } from '../errors/errors.ts'
import { promptOf } from '../prefix/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { GenerateRequest } from './request.ts'

export interface PromptRoom {
  readonly template: string
  /** P of the request's prefix, in virtual tokens. */
  readonly prefixLength: number
  /** Positions of a sequence: prefix, prompt and new tokens together. */
  readonly positionsMax: number
}

/** The event loop turns after so many characters, so that a long list does not hold up the decoding of others. */
const charactersPerTurn = 16_384

/** The prompt of each input in tokens. Throws `input_too_long` where one does not fit with what is to be made. */
export async function encodePrompts(
  request: GenerateRequest,
  room: PromptRoom,
  tokenizer: Tokenizer,
): Promise<number[][]> {
  const prompts: number[][] = []
  let characters = 0
  for (const [index, input] of request.inputs.entries()) {
    characters += input.length
    if (characters > charactersPerTurn) {
      characters = 0
      await nextTurn()
    }
    const prompt = tokenizer.encode(promptOf(room.template, input))
    checkPrompt(index, prompt, request.maxNewTokens, room)
    prompts.push(prompt)
  }
  return prompts
}

function checkPrompt(index: number, { length }: readonly number[], maxNewTokens: number, room: PromptRoom): void {
  const { template, prefixLength, positionsMax } = room
  if (length === 0) {
    throw new ServiceError('invalid_request', `input ${index} makes an empty prompt with the template "${template}"`)
  }
  const positions = prefixLength + length + maxNewTokens
  if (positions <= positionsMax) return
  throw new ServiceError(
    'input_too_long',
    `input ${index} needs ${positions} positions (prefix ${prefixLength} + prompt ${length} + ` +
      `maxNewTokens ${maxNewTokens}), and the model has ${positionsMax}`,
    { index, prefixLength, promptTokens: length, maxNewTokens, positionsMax },
  )
}

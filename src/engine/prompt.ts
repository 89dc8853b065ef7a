// From a request to the tokens of its prompts: everything that can be wrong with it is found here, before it takes a place.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServiceError } from '../errors/errors.ts'
import { promptOf } from '../prefix/template.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { GenerateRequest } from './request.ts'
import { stopLengthMax, stopTextsMax } from './stop-texts.ts'

/** Beyond these a penalty or a temperature drives logits out of float32's range or makes them all alike. */
const penaltyRange = [0.01, 100] as const
const temperatureMax = 100
/** An hour. */
export const deadlineMsMax = 3_600_000

/** Throws `invalid_request` that names the field, what came and what is allowed. */
export function checkRequest({ inputs, maxNewTokens, stop, seed, decoding, deadlineMs }: GenerateRequest): void {
  const { strategy, temperature, topK, topP, repetitionPenalty, n } = decoding
  check(inputs.length >= 1, 'inputs', inputs.length, 'at least one')
  if (deadlineMs !== undefined) {
    check(isCount(deadlineMs, 1) && deadlineMs <= deadlineMsMax, 'deadlineMs', deadlineMs, `1 to ${deadlineMsMax}`)
  }
  check(isCount(maxNewTokens, 1), 'maxNewTokens', maxNewTokens, 'a whole number from 1')
  check(stop.length <= stopTextsMax, 'stop', stop.length, `at most ${stopTextsMax} texts`)
  for (const text of stop) {
    const valid = text.length >= 1 && text.length <= stopLengthMax && !/\p{Surrogate}/u.test(text)
    check(valid, 'stop', JSON.stringify(text.slice(0, 40)), `well-formed texts of 1 to ${stopLengthMax} characters`)
  }
  check(seed === null || Number.isSafeInteger(seed), 'seed', seed, 'a whole number of at most 53 bits, or null')
  check(strategy === 'greedy' || strategy === 'sample', 'decoding.strategy', strategy, 'greedy or sample')
  check(temperature > 0 && temperature <= temperatureMax, 'decoding.temperature', temperature, `(0, ${temperatureMax}]`)
  check(isCount(topK, 0), 'decoding.topK', topK, 'a whole number from 0')
  check(topP > 0 && topP <= 1, 'decoding.topP', topP, '(0, 1]')
  const [least, most] = penaltyRange
  const penaltyFits = repetitionPenalty >= least && repetitionPenalty <= most
  check(penaltyFits, 'decoding.repetitionPenalty', repetitionPenalty, `[${least}, ${most}]`)
  check(isCount(n, 1), 'decoding.n', n, 'a whole number from 1')
}

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

function isCount(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least
}

function check(valid: boolean, field: string, came: unknown, allowed: string): void {
  if (!valid) throw new ServiceError('invalid_request', `${field} is ${String(came)}; allowed: ${allowed}`, { field })
}

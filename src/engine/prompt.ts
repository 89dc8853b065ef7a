// From a request to the tokens of its prompts: what does not fit into the model is found here, before it takes a place.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServiceError } from '../errors/errors.ts'
import type { Framing } from '../model/framing.ts'
import { promptOf } from '../prefix/template.ts'
import type { RowSource } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Pasts } from './past.ts'
import type { GenerateRequest } from './request.ts'

export interface PromptRoom {
  readonly template: string
  /** P of the request's prefix, in virtual tokens. */
  readonly prefixLength: number
  /** Positions of a sequence: prefix, prompt and new tokens together. */
  readonly positionsMax: number
  /** Positions that an encoder has. */
  readonly sourceMax: number
  readonly framing: Framing
  readonly pasts: Pasts
}

/** The event loop turns after so many characters, so that a long list does not hold up the decoding of others. */
const charactersPerTurn = 16_384

/** What is read for one input. */
export interface Prompt {
  /** By the decoder, at least one. */
  readonly tokens: readonly number[]
  /** By the encoder; null: there is none. */
  readonly source: RowSource | null
  /** Names prefix and source: equal for equal ones. */
  readonly key: string
}

/** The prompt of each input. Throws `input_too_long` where one does not fit with what is to be made. */
export async function encodePrompts(
  request: GenerateRequest,
  room: PromptRoom,
  tokenizer: Tokenizer,
): Promise<Prompt[]> {
  const prompts: Prompt[] = []
  let characters = 0
  for (const [index, input] of request.inputs.entries()) {
    characters += input.length
    if (characters > charactersPerTurn) {
      characters = 0
      await nextTurn()
    }
    const text = tokenizer.encode(promptOf(room.template, input))
    const { framing, pasts } = room
    const [tokens, source] = [framing.opening(text), framing.source(text)]
    checkPrompt(index, tokens, request.maxNewTokens, room)
    if (source !== null) checkSource(index, source, room)
    const read = source && { tokens: source, encoder: pasts.encoder_self, cross: pasts.cross }
    prompts.push({ tokens, source: read, key: keyOf(request.prefixId, source) })
  }
  return prompts
}

/** Ids of prefixes have no space in them. */
function keyOf(prefixId: string | null, source: readonly number[] | null): string {
  return source === null ? (prefixId ?? '') : `${prefixId ?? ''} ${source.join(' ')}`
}

function checkSource(index: number, { length }: readonly number[], { sourceMax }: PromptRoom): void {
  if (length <= sourceMax) return
  const message = `input ${index} comes to ${length} tokens, and the model's encoder reads ${sourceMax}`
  throw new ServiceError('input_too_long', message, { index, promptTokens: length, positionsMax: sourceMax })
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

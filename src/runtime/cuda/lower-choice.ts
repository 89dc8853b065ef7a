// The choice of each row's next token behind the logits of a step: what is asked for goes in, tokens and how probable they are come out.
import { amountsPerToken } from '../logit-changes.ts'
import type { ChosenToken, RowWanted, TokenChoice } from '../runtime.ts'
import { at, type Lowering } from './lowering.ts'
import { Storage, type View } from './steps.ts'

/** Beside the inputs and outputs of the graph. */
export const choicesInput = 'choices'
export const changesInput = 'changed logits'
export const tokensOutput = 'tokens chosen'
export const logprobsOutput = 'their log-probabilities'

const threads = 1024
/** 1 / temperature at most: a difference of logits times it is a number, or infinite. */
const scaleMax = 3e38
/** The largest number below 1 in 24 bits. */
const belowOne = 1 - 2 ** -24

/** Rules change so many logits of a row, or none. */
const changesMin = 64
/** As the kernel's struct: three float64, the token, padding. */
const changeBytes = 32
/** The kernel's for a place where nothing is changed. */
const nothing = -1

/** Whether the kernel can: it has no other filters, tells no alternatives, and makes one token of a row. */
export function isChosenHere(wanted: RowWanted): wanted is TokenChoice {
  if (wanted === null || 'best' in wanted) return false
  const { minP = 0, typicalP = 1, alternatives = 0, forced } = wanted
  return minP === 0 && typicalP === 1 && alternatives === 0 && forced === undefined
}

/**
 * Room for the changes of each row: powers of two, so that steps of many texts share a graph; 0 where there are none.
 */
export function changesRoom(choices: readonly (TokenChoice | null)[]): number {
  const most = Math.max(0, ...choices.map((choice) => choice?.changes?.tokens.length ?? 0))
  return most === 0 ? 0 : Math.max(changesMin, 2 ** Math.ceil(Math.log2(most)))
}

/**
 * `logits`: [rows, vocabulary], contiguous. The last step, so that nothing takes the place of the logits before the host has fetched some.
 * `room` is that of `changesRoom`.
 */
export function appendChoice(l: Lowering, logits: View, rows: number, vocabulary: number, room: number): void {
  const choices = new Storage(16 * rows, 'input')
  const changes = room === 0 ? null : new Storage(changeBytes * rows * room, 'input')
  if (changes !== null) l.inputs.set(changesInput, changes)
  const [tokens, logprobs] = [new Storage(4 * rows, 'output'), new Storage(4 * rows, 'output')]
  l.inputs.set(choicesInput, choices)
  l.outputs.set(tokensOutput, tokens)
  l.outputs.set(logprobsOutput, logprobs)
  const weights = l.temporary(rows * vocabulary)
  const places = [weights, choices, tokens, logprobs].map((storage) => at({ storage, offset: 0 }))
  const changed = [changes === null ? { place: null } : at({ storage: changes, offset: 0 }), { int: room }]
  const given = [at(logits), ...places, ...changed, { int: vocabulary }]
  l.blocks('choose', [rows, 1, 1], threads, given, 4 * rows * vocabulary)
}

/** As the kernel's structs, `room` for each row. */
export function packedChanges(choices: readonly (TokenChoice | null)[], room: number): Int32Array {
  const packed = new Int32Array((changeBytes / 4) * choices.length * room)
  const amounts = new Float64Array(packed.buffer)
  choices.forEach((choice, row) => {
    const { tokens = [], amounts: own = [] } = choice?.changes ?? {}
    for (let i = 0; i < room; i++) {
      const place = row * room + i
      packed[(changeBytes / 4) * place + 2 * amountsPerToken] = tokens[i] ?? nothing
      for (let k = 0; i < tokens.length && k < amountsPerToken; k++)
        amounts[(changeBytes / 8) * place + k] = own[amountsPerToken * i + k] as number
    }
  })
  return packed
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

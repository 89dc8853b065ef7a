// Looks at every number of a request before anything is done for it.
import { ServiceError } from '../errors/errors.ts'
import type { Decoding, GenerateRequest } from './request.ts'
import { stopLengthMax, stopTextsMax } from './stop-texts.ts'

/** Beyond these a penalty or a temperature drives logits out of float32's range or makes them all alike. */
const penaltyRange = [0.01, 100] as const
const temperatureMax = 100
/** Of presence and frequency. */
const penaltyMax = 100
export const biasMax = 100
/** Entries of `logitBias`. */
export const biasedMax = 1024
/** Of texts and of sequences, each. */
export const bannedMax = 256
/** Tokens of one sequence, or characters of one text. */
export const bannedLengthMax = 64
export const topLogprobsMax = 20
export const beamsMax = 64
/** An hour. */
export const deadlineMsMax = 3_600_000

/** Throws `invalid_request` that names the field, what came and what is allowed. */
export function checkRequest(request: GenerateRequest): void {
  const { inputs, maxNewTokens, minNewTokens = 0, stop, seed, decoding, topLogprobs = null, deadlineMs } = request
  check(inputs.length >= 1, 'inputs', inputs.length, 'at least one')
  if (deadlineMs !== undefined) {
    check(isCount(deadlineMs, 1) && deadlineMs <= deadlineMsMax, 'deadlineMs', deadlineMs, `1 to ${deadlineMsMax}`)
  }
  check(isCount(maxNewTokens, 1), 'maxNewTokens', maxNewTokens, 'a whole number from 1')
  const leastFits = isCount(minNewTokens, 0) && minNewTokens <= maxNewTokens
  check(leastFits, 'minNewTokens', minNewTokens, `a whole number from 0 to maxNewTokens, ${maxNewTokens}`)
  check(stop.length <= stopTextsMax, 'stop', stop.length, `at most ${stopTextsMax} texts`)
  for (const text of stop) {
    const valid = text.length >= 1 && text.length <= stopLengthMax && !/\p{Surrogate}/u.test(text)
    check(valid, 'stop', JSON.stringify(text.slice(0, 40)), `well-formed texts of 1 to ${stopLengthMax} characters`)
  }
  check(seed === null || Number.isSafeInteger(seed), 'seed', seed, 'a whole number of at most 53 bits, or null')
  const topFits = topLogprobs === null || (isCount(topLogprobs, 0) && topLogprobs <= topLogprobsMax)
  check(topFits, 'topLogprobs', topLogprobs, `a whole number from 0 to ${topLogprobsMax}, or null`)
  checkDrawing(decoding)
  checkRules(decoding)
  checkTexts(decoding)
  if (decoding.strategy !== 'beam') return
  const scored = request.logprobs ? 'logprobs' : topLogprobs === null ? null : 'topLogprobs'
  check(scored === null, scored ?? '', 'asked for', 'none, as beams are not scored token by token')
}

function checkDrawing({ temperature, topK, topP, minP, typicalP }: Decoding): void {
  check(temperature > 0 && temperature <= temperatureMax, 'decoding.temperature', temperature, `(0, ${temperatureMax}]`)
  check(isCount(topK, 0), 'decoding.topK', topK, 'a whole number from 0')
  check(topP > 0 && topP <= 1, 'decoding.topP', topP, '(0, 1]')
  check(minP >= 0 && minP <= 1, 'decoding.minP', minP, '[0, 1]')
  check(typicalP > 0 && typicalP <= 1, 'decoding.typicalP', typicalP, '(0, 1]')
}

function checkRules(decoding: Decoding): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, noRepeatNgramSize } = decoding
  const { bannedTexts, bannedTokens, logitBias } = decoding
  const [least, most] = penaltyRange
  const penaltyFits = repetitionPenalty >= least && repetitionPenalty <= most
  check(penaltyFits, 'decoding.repetitionPenalty', repetitionPenalty, `[${least}, ${most}]`)
  for (const [field, value] of Object.entries({ presencePenalty, frequencyPenalty }))
    check(Math.abs(value) <= penaltyMax, `decoding.${field}`, value, `[-${penaltyMax}, ${penaltyMax}]`)
  check(isCount(noRepeatNgramSize, 0), 'decoding.noRepeatNgramSize', noRepeatNgramSize, 'a whole number from 0')
  for (const [field, list] of Object.entries({ bannedTexts, bannedTokens })) {
    check(list.length <= bannedMax, `decoding.${field}`, list.length, `at most ${bannedMax}`)
    const fits = list.every(({ length }) => length >= 1 && length <= bannedLengthMax)
    check(fits, `decoding.${field}`, 'one that is empty or too long', `1 to ${bannedLengthMax} long`)
  }
  const biases = Object.values(logitBias)
  check(biases.length <= biasedMax, 'decoding.logitBias', biases.length, `at most ${biasedMax} tokens`)
  for (const value of biases)
    check(Math.abs(value) <= biasMax, 'decoding.logitBias', value, `[-${biasMax}, ${biasMax}] for each token`)
}

function checkTexts({ strategy, n, bestOf, beams, lengthPenalty, earlyStopping }: Decoding): void {
  const known = ['greedy', 'sample', 'beam'].includes(strategy)
  check(known, 'decoding.strategy', strategy, 'greedy, sample or beam')
  check(isCount(n, 1), 'decoding.n', n, 'a whole number from 1')
  const moreFits = isCount(bestOf, n) && (bestOf === n || strategy === 'sample')
  check(moreFits, 'decoding.bestOf', bestOf, `n, ${n}, or more where the strategy is sample`)
  check(isCount(beams, 1) && beams <= beamsMax, 'decoding.beams', beams, `a whole number from 1 to ${beamsMax}`)
  check(Number.isFinite(lengthPenalty), 'decoding.lengthPenalty', lengthPenalty, 'a finite number')
  check([true, false, 'never'].includes(earlyStopping), 'decoding.earlyStopping', earlyStopping, 'true, false or never')
  if (strategy !== 'beam') return
  check(n <= beams, 'decoding.n', n, `at most as many as beams, ${beams}`)
}

function isCount(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least
}

function check(valid: boolean, field: string, came: unknown, allowed: string): void {
  if (!valid) throw new ServiceError('invalid_request', `${field} is ${String(came)}; allowed: ${allowed}`, { field })
}

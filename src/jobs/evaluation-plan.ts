// What an evaluation asks of each system: the prefix, the bare model, and the bare model with examples in its prompt.
import { type GenerateRequest, greedy } from '../engine/request.ts'
import { ServiceError } from '../errors/errors.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { ReferencedInput } from '../prefix/references.ts'
import { inputMark, promptOf } from '../prefix/template.ts'
import { forkSeed } from '../random/random.ts'
import type { Example } from '../train/options.ts'
import { fewShotPrompt } from './few-shot.ts'
import type { SamplingParts } from './generations.ts'
import type { EvaluateJobData } from './job.ts'

/** One request for each input, and the positions that the longest sequence takes. */
export interface Asked {
  readonly requests: readonly GenerateRequest[]
  readonly positions: number
}

export interface AskedFewShot extends Asked {
  /** Examples in a prompt where the context has room for all. */
  readonly promptExamples: number
  /** As many as fitted, on the average. */
  readonly promptExamplesMean: number
}

/** Inputs that have room beside the prefix and the new tokens: all systems get the same. Throws `input_too_long` where none has. */
export function fittingInputs(
  inputs: readonly ReferencedInput[],
  { header: { template, prefixLength } }: Prefix,
  { maxNewTokens }: EvaluateJobData,
  { promptPositions, positionsMax }: SamplingParts,
): readonly ReferencedInput[] {
  const room = positionsMax - prefixLength - maxNewTokens
  const fitting = inputs.filter(({ input }) => promptPositions(promptOf(template, input)) <= room)
  if (fitting.length > 0) return fitting
  const message =
    `none of ${inputs.length} inputs has room: beside the prefix of ${prefixLength} virtual tokens and ` +
    `maxNewTokens ${maxNewTokens} a prompt may have ${room} of the ${positionsMax} positions of the model`
  throw new ServiceError('input_too_long', message, { maxNewTokens, prefixLength, positionsMax })
}

/** The input alone, by the prefix's template; `prefixId` null is the bare model. */
export function askPlainly(
  inputs: readonly ReferencedInput[],
  { header: { template, prefixLength } }: Prefix,
  prefixId: string | null,
  data: EvaluateJobData,
  { promptPositions }: SamplingParts,
): Asked {
  const lengths = inputs.map(({ input }) => promptPositions(promptOf(template, input)))
  return {
    requests: inputs.map(({ input }, i) => requestFor(prefixId, template, input, data, i)),
    positions: (prefixId === null ? 0 : prefixLength) + Math.max(...lengths) + data.maxNewTokens,
  }
}

/**
 * The bare model, with as many of the examples before each input as its context has room for. Null where that is none before
 * any: it would be the bare model once more.
 */
export function askFewShot(
  inputs: readonly ReferencedInput[],
  examples: readonly Example[],
  { header: { template } }: Prefix,
  data: EvaluateJobData,
  parts: SamplingParts,
): AskedFewShot | null {
  const lengthMax = parts.positionsMax - data.maxNewTokens
  const prompts = inputs.map(({ input }) => fewShotPrompt(template, examples, input, lengthMax, parts))
  const shown = prompts.reduce((sum, prompt) => sum + prompt.examples, 0)
  if (shown === 0) return null
  return {
    // The prompt is made already: what the engine is to put its input into is nothing else.
    requests: prompts.map(({ text }, i) => requestFor(null, inputMark, text, data, i)),
    positions: Math.max(...prompts.map(({ length }) => length)) + data.maxNewTokens,
    promptExamples: examples.length,
    promptExamplesMean: shown / prompts.length,
  }
}

/** Each input has a seed of its own, the same for every system. */
function requestFor(
  prefixId: string | null,
  template: string,
  input: string,
  { maxNewTokens, decoding, seed }: EvaluateJobData,
  index: number,
): GenerateRequest {
  const own = forkSeed(seed, index)
  // A job that was put in line by an older version knows fewer options.
  const whole = { ...greedy, ...decoding }
  return { prefixId, inputs: [input], template, maxNewTokens, stop: [], seed: own, decoding: whole, logprobs: false }
}

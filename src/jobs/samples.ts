// A few held-out inputs and what a new prefix makes of them, to be read before anyone relies on it.
import { ServiceError } from '../errors/errors.ts'
import type { GenerateEvent, GenerateRequest, PrefixLoader } from '../engine/request.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixSample } from '../prefix/record.ts'
import type { Example } from '../train/options.ts'

export const samplesMax = 6
export const sampleTokensMax = 64

/** As much of the engine as is needed here. */
export interface SamplingEngine {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>
  dispose(): Promise<void>
}

/** The prefix is stored nowhere yet, so the engine takes it from a loader of our own. */
export type OpenSamplingEngine = (loadPrefix: PrefixLoader) => Promise<SamplingEngine>

const unpublishedId = 'unpublished'

export async function sampleOutputs(
  prefix: Prefix,
  heldOut: readonly Example[],
  open: OpenSamplingEngine,
): Promise<readonly PrefixSample[]> {
  if (heldOut.length === 0) return []
  const engine = await open(() => Promise.resolve(prefix))
  try {
    const asked = heldOut.slice(0, samplesMax).map((example) => sampleOne(engine, example))
    const samples = await Promise.all(asked)
    return samples.filter((sample) => sample !== null)
  } finally {
    await engine.dispose()
  }
}

/** null: the input leaves no room for an output. */
async function sampleOne(engine: SamplingEngine, { input, output }: Example): Promise<PrefixSample | null> {
  try {
    for await (const event of engine.generate(requestFor(input), new AbortController().signal)) {
      if (event.type === 'done') return { input, reference: output, output: event.outputs[0]?.text ?? '' }
    }
    return null
  } catch (error) {
    if (error instanceof ServiceError && error.code === 'input_too_long') return null
    throw error
  }
}

function requestFor(input: string): GenerateRequest {
  return {
    prefixId: unpublishedId,
    inputs: [input],
    maxNewTokens: sampleTokensMax,
    stop: [],
    seed: 0,
    decoding: { strategy: 'greedy', temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1, n: 1 },
    logprobs: false,
  }
}

// What a new prefix makes of held-out inputs: a few texts to be read, and figures over more of them.
import { type GenerateRequest, greedy } from '../engine/request.ts'
import { scoreTexts } from '../evaluate/evaluate.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixSample } from '../prefix/record.ts'
import { groupByInput, type ReferencedInput } from '../prefix/references.ts'
import { promptOf } from '../prefix/template.ts'
import type { Example } from '../train/options.ts'
import { generateTexts, type SamplingParts } from './generations.ts'

export const samplesMax = 6
/** Held-out inputs scored at the end of a training: enough for a first figure, not enough to wait for. */
export const scoredMax = 64
/** After this time the figures are those of the inputs that were ready. */
const scoringMsMax = 30_000
/** New tokens: as many as the longest reference has, within these bounds and the room in the model. */
const newTokensMin = 64
const newTokensMax = 256

/** The prefix is stored nowhere yet, so the engine takes it from a loader of our own. */
const unpublishedId = 'unpublished'

export interface HeldOutOutcome {
  readonly samples: readonly PrefixSample[]
  /** Scores by name, and the number of `examples` behind them; empty where nothing was held out. */
  readonly metrics: Readonly<Record<string, number>>
}

/** Greedy, as one who asks for text without further options gets it. Ends early, with less, where `signal` aborts. */
export async function evaluateHeldOut(
  prefix: Prefix,
  heldOut: readonly Example[],
  signal: AbortSignal,
  parts: SamplingParts,
  msMax = scoringMsMax,
): Promise<HeldOutOutcome> {
  const inputs = groupByInput(heldOut).slice(0, scoredMax)
  if (inputs.length === 0) return { samples: [], metrics: {} }
  const { requests, positions } = requestsFor(prefix, inputs, parts)
  const stop = new AbortController()
  const abort = (): void => stop.abort()
  const timer = setTimeout(abort, msMax)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  const engine = await parts.openEngine(() => Promise.resolve(prefix), positions)
  try {
    return outcomeOf(inputs, await generateTexts(engine, requests, stop.signal))
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
    await engine.dispose()
  }
}

function requestsFor(
  { header: { template, prefixLength } }: Prefix,
  inputs: readonly ReferencedInput[],
  { countTokens, promptPositions, positionsMax }: SamplingParts,
): { readonly requests: readonly GenerateRequest[]; readonly positions: number } {
  const longest = Math.max(...inputs.flatMap(({ references }) => references.map(countTokens)))
  const wanted = Math.min(Math.max(longest + 1, newTokensMin), newTokensMax)
  let positions = 0
  const requests = inputs.map(({ input }) => {
    const used = prefixLength + promptPositions(promptOf(template, input))
    // An example that could be learned from has room for its own output.
    const maxNewTokens = Math.max(1, Math.min(wanted, positionsMax - used))
    positions = Math.max(positions, used + maxNewTokens)
    return { ...sampleRequest, inputs: [input], maxNewTokens }
  })
  return { requests, positions: Math.min(positions, positionsMax) }
}

const sampleRequest = { prefixId: unpublishedId, stop: [], seed: 0, decoding: greedy, logprobs: false }

function outcomeOf(inputs: readonly ReferencedInput[], texts: readonly (string | undefined)[]): HeldOutOutcome {
  // Up to the first that was not ready: to leave out the slow ones alone would favour those with short answers.
  const missing = texts.indexOf(undefined)
  const ready = (missing < 0 ? texts : texts.slice(0, missing)) as readonly string[]
  const scored = inputs.slice(0, ready.length)
  const samples = scored.slice(0, samplesMax).map(({ input, references }, i) => {
    return { input, reference: references[0] as string, output: ready[i] as string }
  })
  if (ready.length === 0) return { samples, metrics: {} }
  const scores = scoreTexts(
    ready,
    scored.map(({ references }) => references),
  )
  return { samples, metrics: { ...scores, examples: ready.length } }
}

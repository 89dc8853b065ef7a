// Many texts through the engine, the way requests are served, with bounds on memory and on what is under way at once.
import { setMaxListeners } from 'node:events'
import type { GenerateEvent, GenerateRequest, PrefixLoader } from '../engine/request.ts'

/** Texts decoded side by side where there is memory for them. */
const rowsMax = 16
/** Cached positions of all rows together: 300 MB of keys and values in GPT-2 of 124 million parameters. */
const cachedPositionsMax = 4_096
/** Requests given to the engine at once: enough that no row waits for the next one. */
const underWayMax = 2 * rowsMax

/** As much of the engine as is needed here. */
export interface SamplingEngine {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>
  dispose(): Promise<void>
}

/** An engine whose rows have `positions` each, for prefix, prompt and new tokens. */
export type OpenSamplingEngine = (loadPrefix: PrefixLoader, positions: number) => Promise<SamplingEngine>

/** What is needed to generate in a job. */
export interface SamplingParts {
  readonly openEngine: OpenSamplingEngine
  readonly countTokens: (text: string) => number
  /** Of the model. */
  readonly positionsMax: number
}

/** Rows for sequences of so many positions, within the memory that a job may take for them. */
export function rowsFor(positions: number): number {
  return Math.min(rowsMax, Math.max(1, Math.floor(cachedPositionsMax / positions)))
}

/**
 * The text of each request, which asks for one. Where `signal` aborts, those that were not ready are missing; any other
 * failure is thrown once nothing is under way any more. `onText` is called after each with their number so far.
 */
export async function generateTexts(
  engine: SamplingEngine,
  requests: readonly GenerateRequest[],
  signal: AbortSignal,
  onText: (done: number) => Promise<void> = () => Promise.resolve(),
): Promise<(string | undefined)[]> {
  const texts = Array.from<string | undefined>({ length: requests.length })
  const stop = new AbortController()
  // Every request under way listens to it; so many are no leak.
  setMaxListeners(underWayMax, stop.signal)
  const abort = (): void => stop.abort()
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  const failures: unknown[] = []
  let [next, done] = [0, 0]
  const work = async (): Promise<void> => {
    while (next < requests.length && !stop.signal.aborted) {
      const index = next++
      try {
        texts[index] = await textOf(engine, requests[index] as GenerateRequest, stop.signal)
        await onText(++done)
      } catch (error) {
        if (!stop.signal.aborted) failures.push(error)
        abort()
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(underWayMax, requests.length) }, work))
  signal.removeEventListener('abort', abort)
  if (failures.length > 0) throw failures[0]
  return texts
}

async function textOf(engine: SamplingEngine, request: GenerateRequest, signal: AbortSignal): Promise<string> {
  for await (const event of engine.generate(request, signal)) {
    if (event.type === 'done') return event.outputs[0]?.text ?? ''
  }
  throw new Error('the generation ended without its last event')
}

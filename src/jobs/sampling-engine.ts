// An engine inside a job's process, for the time of a job: the model is there already, the cache is made for what is asked.
import { Engine } from '../engine/engine.ts'
import { defaultLimits } from '../engine/limits.ts'
import { layoutFor } from '../engine/played.ts'
import type { PrefixLoader } from '../engine/request.ts'
import type { Model } from '../model/model.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { rowsFor, type SamplingEngine, type SamplingParts } from './generations.ts'

export function samplingParts(runtime: Runtime, model: Model, tokenizer: Tokenizer): SamplingParts {
  const { framing, sourceMax } = model
  const { positionsMax } = model.config
  const openEngine = async (loadPrefix: PrefixLoader, positions: number): Promise<SamplingEngine> => {
    const layout = layoutFor(model, rowsFor(positions), positions)
    const forward = model.forwardGraph(runtime.segments)
    const session = await runtime.openSession(forward, model.weights, layout, 'float32', model.sourceGraph())
    // Its batches are full, and figures of the same texts come out the same to the last bit.
    const limits = { ...defaultLimits, draftTokensMax: 0 }
    const engine = new Engine({ session, tokenizer, loadPrefix, model, limits })
    const dispose = async (): Promise<void> => {
      await engine.close()
      await session.dispose()
    }
    return { generate: (request, signal) => engine.generate(request, signal), dispose }
  }
  const promptPositions = (prompt: string): number => {
    const tokens = tokenizer.encode(prompt)
    const source = framing.source(tokens)
    return source !== null && source.length > sourceMax ? Infinity : framing.opening(tokens).length
  }
  const countTokens = (text: string): number => tokenizer.encode(text).length
  const endMark = tokenizer.special.get(tokenizer.endOfText) ?? ''
  return { openEngine, promptPositions, countTokens, endMark, positionsMax }
}

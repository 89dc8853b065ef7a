// An engine inside a job's process, for the time of a job: the model is there already, the cache is made for what is asked.
import { defaultLimits, Engine } from '../engine/engine.ts'
import type { PrefixLoader } from '../engine/request.ts'
import type { Model } from '../model/model.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { rowsFor, type SamplingEngine, type SamplingParts } from './generations.ts'

export function samplingParts(runtime: Runtime, model: Model, tokenizer: Tokenizer): SamplingParts {
  const { layers, heads, headDim, positionsMax } = model.config
  const openEngine = async (loadPrefix: PrefixLoader, positions: number): Promise<SamplingEngine> => {
    const layout = { layers, heads, headDim, rowsMax: rowsFor(positions), positionsMax: positions }
    const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout)
    const engine = new Engine({ session, tokenizer, loadPrefix, limits: defaultLimits })
    const dispose = async (): Promise<void> => {
      await engine.close()
      await session.dispose()
    }
    return { generate: (request, signal) => engine.generate(request, signal), dispose }
  }
  return { openEngine, countTokens: (text) => tokenizer.encode(text).length, positionsMax }
}

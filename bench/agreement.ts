// Whether decoding in 8 bits says the same as in float32: texts of E2E records with a trained prefix, word for word and by BLEU.
import type { Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { greedy } from '../src/engine/request.ts'
import { generateTexts } from '../src/jobs/generations.ts'
import { Engine } from '../src/engine/engine.ts'
import { defaultLimits } from '../src/engine/limits.ts'
import { scoreTexts } from '../src/evaluate/evaluate.ts'
import { e2eTask } from './drafts.ts'
import type { Figures } from './machine.ts'

const recordsMax = 200
const newTokensMax = 120
const rowsMax = 16

/** Trains the study's base plan in float32 once, then decodes in each form; the first one is what others are compared with. */
export async function measureAgreement(
  { runtime, model, tokenizer }: { runtime: Runtime; model: Model; tokenizer: Tokenizer },
  data: string,
  forms: readonly string[],
  checkpoints: string,
): Promise<readonly Figures[]> {
  const { prefix, records } = await e2eTask({ runtime, model, tokenizer }, data, recordsMax, checkpoints)
  const requests = records.map(({ input }) => {
    return {
      maxNewTokens: newTokensMax,
      stop: [],
      seed: 0,
      decoding: greedy,
      logprobs: false,
      prefixId: 'e2e',
      inputs: [input],
    }
  })
  const figures: Figures[] = []
  let first: readonly (string | null)[] | null = null
  for (const form of forms) {
    const session = await runtime.openSession(
      model.forwardGraph(runtime.segments),
      model.weights,
      { ...model.config, rowsMax },
      form,
    )
    const engine = new Engine({ session, tokenizer, loadPrefix: () => Promise.resolve(prefix), limits: defaultLimits })
    const generate: Engine['generate'] = (request, signal) => engine.generate(request, signal)
    const dispose = async (): Promise<void> => {
      await engine.close()
      await session.dispose()
    }
    const texts = (await generateTexts(
      { generate, dispose },
      requests,
      new AbortController().signal,
    )) as readonly string[]
    await dispose()
    first ??= texts
    const { bleu } = scoreTexts(
      texts,
      records.map(({ references }) => references),
    )
    const same = texts.filter((text, i) => text === first?.[i]).length
    figures.push({ form, records: records.length, same, samePercent: (100 * same) / records.length, bleu })
  }
  return figures
}

// Training examples as text in the prompt of the bare model: the way to put a task to it without a prefix.
import type { PrefixRecord } from '../prefix/record.ts'
import { promptOf } from '../prefix/template.ts'
import { Random } from '../random/random.ts'
import type { Example } from '../train/options.ts'
import { splitExamples } from '../train/split.ts'
import type { SamplingParts } from './generations.ts'

const promptExamplesMax = 3

/**
 * Examples that the prefix was trained on, drawn by `seed`; none whose input is asked in the evaluation. Empty where the
 * service does not know what the prefix was trained on.
 */
export async function drawExamples(
  { dataset, validation, training }: Pick<PrefixRecord, 'dataset' | 'validation' | 'training'>,
  asked: ReadonlySet<string>,
  seed: number,
  datasets: { get(id: string): Promise<readonly Example[]> },
): Promise<readonly Example[]> {
  if (dataset === null) return []
  const all = await datasets.get(dataset.id)
  const trainingSeed = training['seed']
  const isSplit = typeof validation === 'number' && typeof trainingSeed === 'number'
  const seen = isSplit ? splitExamples(all, validation, trainingSeed).examples : all
  const unasked = seen.filter(({ input }) => !asked.has(input))
  new Random(seed).shuffle(unasked)
  return unasked.slice(0, promptExamplesMax)
}

export interface FewShotPrompt {
  readonly text: string
  /** In positions of the model. */
  readonly length: number
  /** Examples in it. */
  readonly examples: number
}

/** Each example as the template makes it, its output and end-of-text; then the input. The last examples go first for want of room. */
export function fewShotPrompt(
  template: string,
  examples: readonly Example[],
  input: string,
  /** In positions of the model. */
  lengthMax: number,
  { promptPositions, endMark }: Pick<SamplingParts, 'promptPositions' | 'endMark'>,
): FewShotPrompt {
  const shown = examples.map((example) => `${promptOf(template, example.input)} ${example.output}${endMark}`)
  for (let count = shown.length; ; count--) {
    const text = shown.slice(0, count).join('') + promptOf(template, input)
    const length = promptPositions(text)
    if (length <= lengthMax || count === 0) return { text, length, examples: count }
  }
}

// Puts seeded prefixes into a store, as trainings would have left them: speed does not depend on what a prefix knows.
import type { Model } from '../src/model/model.ts'
import type { Prefix } from '../src/prefix/prefix.ts'
import type { PrefixRegistry } from '../src/prefix/registry.ts'
import { defaultTemplate } from '../src/prefix/template.ts'
import { Random } from '../src/random/random.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'

/** Written side by side. */
const writesMax = 8
/** Small enough that the model's texts stay texts. */
const deviation = 0.1

/** Bytes of the keys and values of one of them. */
export function prefixBytes({ config }: Model, prefixLength: number): number {
  return 2 * 4 * numbersOf({ config }, prefixLength)
}

/** Answers the ids. The same seed gives the same prefixes under other ids. */
export async function storePrefixes(
  registry: PrefixRegistry,
  model: Model,
  tokenizer: Tokenizer,
  { count, prefixLength, seed }: { readonly count: number; readonly prefixLength: number; readonly seed: number },
): Promise<string[]> {
  const draw = drawPrefixes(model, tokenizer, prefixLength, seed)
  const belongs = { model: { name: model.name, sha256: model.sha256 }, tokenizerSha256: tokenizer.sha256 }
  const rest = { name: null, jobId: null, dataset: null, template: defaultTemplate, prefixLength, training: {} }
  const ids: string[] = Array.from({ length: count }, () => '')
  let next = 0
  const write = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) {
      const { id } = await registry.create({ ...belongs, ...rest })
      await registry.publish(id, draw(i))
      ids[i] = id
    }
  }
  await Promise.all(Array.from({ length: writesMax }, write))
  return ids
}

/** Prefix `i` is a window into one long list of random numbers: each is another, and none is drawn anew. */
function drawPrefixes(model: Model, tokenizer: Tokenizer, prefixLength: number, seed: number): (i: number) => Prefix {
  const { layers, heads, headDim } = model.config
  const size = numbersOf(model, prefixLength)
  const random = new Random(seed)
  const numbers = Float32Array.from({ length: 3 * size }, () => deviation * random.normal())
  const belongs = { modelSha256: model.sha256, tokenizerSha256: tokenizer.sha256 }
  const shape = { prefixLength, textPositionStart: prefixLength, layers, heads, headDim }
  const header = { attachment: 'decoder_self' as const, ...shape, ...belongs, template: defaultTemplate, training: {} }
  // A step prime to the size: as many windows as there are numbers in one.
  const from = (i: number): number => (i * 101) % size
  return (i) => ({
    header,
    keys: numbers.subarray(from(i), from(i) + size),
    values: numbers.subarray(size + from(i), 2 * size + from(i)),
  })
}

function numbersOf({ config: { layers, heads, headDim } }: Pick<Model, 'config'>, prefixLength: number): number {
  return layers * heads * headDim * prefixLength
}

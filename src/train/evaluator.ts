// Held-out loss: how well a finished prefix predicts examples it was not trained on.
import { ServiceError } from '../errors/errors.ts'
import type { Model } from '../model/model.ts'
import { placesOf, type Prefix } from '../prefix/prefix.ts'
import type { Program, Runtime } from '../runtime/runtime.ts'
import { float32 } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { epochBatches } from './batches.ts'
import { encodeExamples, lengthOf, type EncodedExample } from './encode.ts'
import { batchFeeds, lossWeight } from './feeds.ts'
import { evaluationGraph } from './graphs.ts'
import type { Example } from './options.ts'
import { foldedShape, shapeOn, type PrefixShape } from './parameters.ts'
import { feedsOfSources, type SourceMemory } from './source-memory.ts'

/** More held-out examples than this do not make the loss surer by enough to be worth their time. */
const evaluationExamplesMax = 256

const batchSize = 16

export class Evaluator {
  readonly #program: Program | null
  readonly #sources: SourceMemory | null
  readonly #shape: PrefixShape
  readonly #batches: readonly (readonly EncodedExample[])[]

  private constructor(
    program: Program | null,
    shape: PrefixShape,
    examples: readonly EncodedExample[],
    sources: SourceMemory | null,
  ) {
    this.#program = program
    this.#sources = sources
    this.#shape = foldedShape(shape)
    const lengths = examples.map(lengthOf)
    this.#batches = epochBatches(lengths, batchSize, 0, 0).map((batch) =>
      batch.map((index) => examples[index] as EncodedExample),
    )
  }

  /** `sources`, in float32, spares reading them again at each evaluation. */
  static async open(
    runtime: Runtime,
    model: Model,
    shape: PrefixShape,
    heldOut: readonly EncodedExample[],
    sources: SourceMemory | null = null,
  ): Promise<Evaluator> {
    const graph = evaluationGraph(model, shape, { encoded: sources !== null })
    const program = heldOut.length === 0 ? null : await runtime.compile(graph, model.weights)
    return new Evaluator(program, shape, heldOut.slice(0, evaluationExamplesMax), sources)
  }

  get isEmpty(): boolean {
    return this.#program === null
  }

  /** Mean loss per target token, in nats; over whole batches until there are `examplesMax` examples. */
  async loss(keys: Float32Array, values: Float32Array, examplesMax = Infinity): Promise<number> {
    const { layers, heads, prefixLength, headDim } = this.#shape
    const extents = [layers, heads, prefixLength, headDim]
    let sum = 0
    let count = 0
    let examples = 0
    for (const batch of this.#batches) {
      if (examples >= examplesMax) break
      examples += batch.length
      const outputs = await (this.#program as Program).run({
        ...batchFeeds(batch, this.#shape, lossWeight(batch, 'mean')),
        ...(await feedsOfSources(this.#sources, batch)),
        keys: float32(keys, extents),
        values: float32(values, extents),
      })
      const losses = outputs['tokenLosses']?.data as Float32Array
      for (const loss of losses) sum += loss
      count += losses.length
    }
    return sum / count
  }

  async dispose(): Promise<void> {
    await this.#program?.dispose()
  }
}

/**
 * Mean loss of a stored prefix per target token in nats, on the first `evaluationExamplesMax` of the examples that have room
 * in the model; null where none has. An infix, which the engine does not serve, is measured like any other.
 */
export async function measureLoss(
  { runtime, model, tokenizer }: { readonly runtime: Runtime; readonly model: Model; readonly tokenizer: Tokenizer },
  { header, keys, values }: Prefix,
  examples: readonly Example[],
): Promise<number | null> {
  const { template, prefixLength, attachment, textPositionStart } = header
  const { positionsMax } = model.config
  const room = { tokensMax: positionsMax - prefixLength, sourceMax: model.sourceMax }
  const isInfix = attachment === 'infix'
  const plain = { prefixLength, reparametrization: 0, variant: isInfix ? 'infix' : 'prefix' } as const
  const attachments = isInfix ? null : placesOf(header).map((place) => place.attachment)
  // An infix says that text starts at 0, which is so before it comes in.
  const shape = shapeOn(model, plain, attachments, isInfix ? prefixLength : textPositionStart)
  const encoded: EncodedExample[] = []
  for (const example of examples) {
    if (encoded.length === evaluationExamplesMax) break
    try {
      encoded.push(...encodeExamples(tokenizer, template, [example], room, model.framing))
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'input_too_long') throw error
    }
  }
  const evaluator = await Evaluator.open(runtime, model, shape, encoded)
  try {
    return evaluator.isEmpty ? null : await evaluator.loss(keys, values)
  } finally {
    await evaluator.dispose()
  }
}

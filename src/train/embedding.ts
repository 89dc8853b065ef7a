// The embedding-only prefix: P input embeddings, which the frozen model turns into keys and values (Li & Liang 2021, section 7.2).
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { Model } from '../model/model.ts'
import type { Feeds } from '../runtime/runtime.ts'
import { int32 } from '../tensor/tensor.ts'
import type { PrefixShape, PrefixValues } from './parameters.ts'

/** Their position embeddings are added, so that they stand where words at positions 0 to P − 1 would. */
export const embeddingParameter = 'inputs'

/** Adds the model's pass over the embeddings, without any past: what it makes of them is a prefix like any other. */
export function embeddingValues(
  g: GraphBuilder,
  model: Pick<Model, 'decoder'>,
  { prefixLength, layers, heads, headDim }: PrefixShape,
): PrefixValues {
  const inputs = g.input(embeddingParameter, [prefixLength, heads * headDim])
  // A past of one position that nobody sees: an empty one has no extent.
  const past = {
    key: g.constant(0, [1, heads, headDim, 1]),
    value: g.constant(0, [1, heads, 1, headDim]),
  }
  const segment = {
    tokens: g.reshape(inputs, [1, prefixLength, heads * headDim]),
    positions: g.input('inputPositions', [1, prefixLength], 'int32'),
    pastLengths: g.input('inputPastLengths', [1], 'int32'),
    past: Array.from({ length: layers }, () => past),
  }
  const { keys, values } = model.decoder(g, { segments: [segment], rows: null })
  // [1, P, heads·headDim] of each layer → [layers, heads, P, headDim]
  const layerMajor = (each: readonly Value[]): Value =>
    g.transpose(g.stack(each.map((one) => g.reshape(one, [prefixLength, heads, headDim]))), [0, 2, 1, 3])
  return { trainables: new Map([[embeddingParameter, inputs]]), keys: layerMajor(keys), values: layerMajor(values) }
}

export function embeddingFeeds({ prefixLength }: Pick<PrefixShape, 'prefixLength'>): Feeds {
  const positions = Int32Array.from({ length: prefixLength }, (_, p) => p)
  return { inputPositions: int32(positions, [1, prefixLength]), inputPastLengths: int32(Int32Array.of(0), [1]) }
}

// The embedding-only prefix: P input embeddings, which the frozen model turns into keys and values (Li & Liang 2021, section 7.2).
import type { GraphBuilder } from '../graph/builder.ts'
import type { Model } from '../model/model.ts'
import type { Feeds } from '../runtime/runtime.ts'
import { int32 } from '../tensor/tensor.ts'
import { emptyLayers, toLayerMajor } from './layers.ts'
import type { PrefixShape, PrefixValues } from './parameters.ts'

/** Their position embeddings are added, so that they stand where words at positions 0 to P − 1 would. */
export const embeddingParameter = 'inputs'

/** Adds the model's pass over the embeddings, without any past: what it makes of them is a prefix like any other. */
export function embeddingValues(g: GraphBuilder, model: Pick<Model, 'decoder'>, shape: PrefixShape): PrefixValues {
  const { prefixLength, layers, heads, headDim } = shape
  const inputs = g.input(embeddingParameter, [prefixLength, heads * headDim])
  const segment = {
    tokens: g.reshape(inputs, [1, prefixLength, heads * headDim]),
    positions: g.input('inputPositions', [1, prefixLength], 'int32'),
    past: { layers: emptyLayers(g, layers, shape), lengths: g.input('inputPastLengths', [1], 'int32') },
  }
  const { keys, values } = model.decoder(g, { segments: [segment], rows: null })
  return {
    trainables: new Map([[embeddingParameter, inputs]]),
    keys: toLayerMajor(g, keys, shape),
    values: toLayerMajor(g, values, shape),
  }
}

export function embeddingFeeds({ prefixLength }: Pick<PrefixShape, 'prefixLength'>): Feeds {
  const positions = Int32Array.from({ length: prefixLength }, (_, p) => p)
  return { inputPositions: int32(positions, [1, prefixLength]), inputPastLengths: int32(Int32Array.of(0), [1]) }
}

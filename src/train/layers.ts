// Keys and values of all layers, between the form of a prefix and that of a model's layers.
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { DecoderSegment, EncodedSource, LayerPast, Past, PlaceName, SourceSegment } from '../model/segments.ts'
import type { PrefixShape } from './parameters.ts'

/** Pasts of one position that nobody sees: an empty one has no extent. */
export function emptyLayers(
  g: GraphBuilder,
  layers: number,
  { heads, headDim }: Pick<PrefixShape, 'heads' | 'headDim'>,
): LayerPast[] {
  const past = { key: g.constant(0, [1, heads, headDim, 1]), value: g.constant(0, [1, heads, 1, headDim]) }
  return Array.from({ length: layers }, () => past)
}

/** What is read over `pasts`, by place; `source` is read, or was read before, where the model has an encoder. */
export function segmentOver(
  pasts: ReadonlyMap<PlaceName, Past>,
  own: Pick<DecoderSegment, 'tokens' | 'positions'>,
  source: () => Omit<SourceSegment, 'past'> | EncodedSource,
): DecoderSegment {
  const [past, cross, encoder] = [pasts.get('decoder_self') as Past, pasts.get('cross'), pasts.get('encoder_self')]
  if (encoder === undefined) return { ...own, past, ...(cross && { cross }) }
  const given = source()
  return { ...own, past, ...(cross && { cross }), source: 'hidden' in given ? given : { ...given, past: encoder } }
}

/** [1, P, heads·headDim] of each layer → [layers, heads, P, headDim] */
export function toLayerMajor(
  g: GraphBuilder,
  each: readonly Value[],
  { heads, headDim, prefixLength }: PrefixShape,
): Value {
  return g.transpose(g.stack(each.map((one) => g.reshape(one, [prefixLength, heads, headDim]))), [0, 2, 1, 3])
}

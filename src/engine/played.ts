// What the engine has to know of the model beside its session: how it reads a prompt, and where it takes prefixes.
import { continuing } from '../model/framing.ts'
import type { Model } from '../model/model.ts'
import { prefixLengthMax } from '../prefix/artifact.ts'
import type { CacheLayout } from '../runtime/runtime.ts'

/** Of the model itself; `playing` in model.ts says what a stored prefix is compared with. */
export type PlayedModel = Pick<Model, 'framing' | 'places' | 'textStarts' | 'sourceMax'>

/** A decoder alone, which goes on from its prompt. */
export function decoderAlone({ layers }: CacheLayout): PlayedModel {
  const places = [{ attachment: 'decoder_self', layers }] as const
  return { framing: continuing, places, textStarts: ['prefixLength'], sourceMax: 0 }
}

/** The cache for a model's rows of so many positions each. */
export function layoutFor({ config, sourceMax }: Model, rowsMax: number, positionsMax: number): CacheLayout {
  const { layers, heads, headDim } = config
  const layout = { layers, heads, headDim, rowsMax, positionsMax }
  return sourceMax === 0 ? layout : { ...layout, sourceMax: prefixLengthMax + sourceMax }
}

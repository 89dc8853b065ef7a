// A prefix as the cache takes it: the last look at whether it fits the rows that it is put into.
import { ServiceError } from '../errors/errors.ts'
import type { PlaceName } from '../model/segments.ts'
import { placesOf, type Prefix } from '../prefix/prefix.ts'
import type { CacheLayout, Past } from '../runtime/runtime.ts'
import type { PlayedModel } from './played.ts'

/** By place; null where the prefix has nothing. */
export type Pasts = Readonly<Record<PlaceName, Past | null>>

export const noPasts: Pasts = { decoder_self: null, cross: null, encoder_self: null }

/** Throws `prefix_model_mismatch` or `prefix_invalid`, naming both sides. */
export function pastsOf(prefixId: string, prefix: Prefix, layout: CacheLayout, model: PlayedModel): Pasts {
  const { layers, heads, headDim, prefixLength, textPositionStart } = prefix.header
  checkPlaces(prefixId, prefix, layout, model)
  const numbers = layers * heads * prefixLength * headDim
  if (prefix.keys.length !== numbers || prefix.values.length !== numbers) {
    throw new ServiceError(
      'prefix_invalid',
      `prefix ${prefixId} has ${prefix.keys.length} keys and ${prefix.values.length} values, its shape needs ${numbers}`,
    )
  }
  const pasts: Record<PlaceName, Past | null> = { ...noPasts }
  let from = 0
  for (const place of placesOf(prefix.header)) {
    const to = from + (place.layers * numbers) / layers
    const [keys, values] = [prefix.keys.subarray(from, to), prefix.values.subarray(from, to)]
    pasts[place.attachment as PlaceName] = { keys, values, length: prefixLength, textStart: textPositionStart }
    from = to
  }
  return pasts
}

function checkPlaces(prefixId: string, { header }: Prefix, layout: CacheLayout, model: PlayedModel): void {
  const { heads, headDim, prefixLength, textPositionStart } = header
  for (const { attachment, layers } of placesOf(header)) {
    const place = model.places.find((each) => each.attachment === attachment)
    const known = model.places.map((each) => each.attachment).join(', ')
    const starts = model.textStarts.map((each) => (each === 'zero' ? 0 : prefixLength))
    if (place === undefined || !starts.includes(textPositionStart)) {
      throw new ServiceError(
        'prefix_invalid',
        `prefix ${prefixId} attaches to ${attachment} with text from position ${textPositionStart}, ` +
          `this service plays ${known} with text from position ${starts.join(' or ')}`,
      )
    }
    if (layers === place.layers && heads === layout.heads && headDim === layout.headDim) continue
    throw new ServiceError(
      'prefix_model_mismatch',
      `prefix ${prefixId} is for ${layers} layers × ${heads} heads × ${headDim}, ` +
        `this service runs ${place.layers} layers × ${layout.heads} heads × ${layout.headDim}`,
    )
  }
}

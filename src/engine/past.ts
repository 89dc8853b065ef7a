// A prefix as the cache takes it: the last look at whether it fits the rows that it is put into.
import { ServiceError } from '../errors/errors.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { CacheLayout, Past } from '../runtime/runtime.ts'

/** Throws `prefix_model_mismatch` or `prefix_invalid`, naming both sides. */
export function pastOf(prefixId: string, prefix: Prefix, layout: CacheLayout): Past {
  const { layers, heads, headDim, prefixLength, attachment, textPositionStart } = prefix.header
  if (layers !== layout.layers || heads !== layout.heads || headDim !== layout.headDim) {
    throw new ServiceError(
      'prefix_model_mismatch',
      `prefix ${prefixId} is for ${layers} layers × ${heads} heads × ${headDim}, ` +
        `this service runs ${layout.layers} layers × ${layout.heads} heads × ${layout.headDim}`,
    )
  }
  if (attachment !== 'decoder_self' || textPositionStart !== prefixLength) {
    throw new ServiceError(
      'prefix_invalid',
      `prefix ${prefixId} attaches to ${attachment} with text from position ${textPositionStart}, ` +
        `this service plays decoder_self with text from position ${prefixLength}`,
    )
  }
  const numbers = layers * heads * prefixLength * headDim
  if (prefix.keys.length !== numbers || prefix.values.length !== numbers) {
    throw new ServiceError(
      'prefix_invalid',
      `prefix ${prefixId} has ${prefix.keys.length} keys and ${prefix.values.length} values, its shape needs ${numbers}`,
    )
  }
  return { keys: prefix.keys, values: prefix.values, length: prefixLength }
}

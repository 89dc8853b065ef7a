// The keys and values that words give in the frozen model, at each place where a prefix may be put in.
import { GraphBuilder } from '../graph/builder.ts'
import { makeGraph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import type { Model } from '../model/model.ts'
import type { KeysAndValues, PlaceName } from '../model/segments.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { int32, type Tensor } from '../tensor/tensor.ts'
import { emptyLayers, segmentOver, toLayerMajor } from './layers.ts'
import type { PrefixShape } from './parameters.ts'

export interface WordParts {
  readonly runtime: Runtime
  readonly model: Model
}

/**
 * Of P tokens at positions 0 to P − 1: keys and values [layers, heads, P, headDim]. An encoder reads the same words as the
 * decoder, so that each place gets what words would have put there.
 */
export async function wordActivations(
  { runtime, model }: WordParts,
  shape: PrefixShape,
  tokens: Int32Array,
): Promise<Pick<Prefix, 'keys' | 'values'>> {
  const { prefixLength, places } = shape
  const g = new GraphBuilder()
  const read = {
    tokens: g.input('tokens', [1, prefixLength], 'int32'),
    positions: g.input('positions', [1, prefixLength], 'int32'),
  }
  const none = g.input('pastLengths', [1], 'int32')
  const pasts = new Map(
    model.places.map(({ attachment, layers }) => [
      attachment,
      { layers: emptyLayers(g, layers, shape), lengths: none },
    ]),
  )
  const segment = segmentOver(pasts, read, () => ({ ...read, lengths: g.input('lengths', [1], 'int32') }))
  const { keys, values, sourceKeysAndValues } = model.decoder(g, { segments: [segment], rows: null })
  const made: Partial<Record<PlaceName, KeysAndValues>> = { decoder_self: { keys, values }, ...sourceKeysAndValues }
  const layerMajor = (half: 'keys' | 'values'): Value =>
    toLayerMajor(
      g,
      places.flatMap((place) => made[place.attachment]?.[half] ?? []),
      shape,
    )
  const program = await runtime.compile(
    makeGraph({ keys: layerMajor('keys'), values: layerMajor('values') }),
    model.weights,
  )
  const outputs = await program.run({
    tokens: int32(tokens, [1, prefixLength]),
    positions: int32(
      Int32Array.from(tokens, (_, t) => t),
      [1, prefixLength],
    ),
    pastLengths: int32(Int32Array.of(0), [1]),
    ...(segment.source && { lengths: int32(Int32Array.of(prefixLength), [1]) }),
  })
  await program.dispose()
  const of = (half: string): Float32Array => (outputs[half] as Tensor).data as Float32Array
  return { keys: of('keys'), values: of('values') }
}

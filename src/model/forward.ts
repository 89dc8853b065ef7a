// The graphs that serve: the decoder over a cache, and the encoder whose work the cache keeps.
import { GraphBuilder } from '../graph/builder.ts'
import { makeGraph, type Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import type { Dim } from '../graph/shape.ts'
import type { ModelConfig } from './config.ts'
import type { Model, PrefixPlace } from './model.ts'
import type { KeysAndValues, LayerPast, Past, SourceSegment } from './segments.ts'

type Heads = Pick<ModelConfig, 'heads' | 'headDim'>

/**
 * Prefill, decode step or both at once, over segments of neighbouring rows. Inputs of segment s, named with `s.` in
 * front where there are several (`1.tokens`): int32 tokens and positions [B, T], pastLengths [B], and pastKey.l
 * [B, heads, headDim, M] and pastValue.l [B, heads, M, headDim] of each layer; and int32 rows [R], of the B·T positions
 * of all segments, counted one after the other. Of a model with an encoder also crossLengths [B], and crossKey.l
 * [B, heads, headDim, C] and crossValue.l [B, heads, C, headDim]: prefix and source. Outputs: logits [R, vocabulary] and
 * present, the new keys and values layer by layer: [2·layers, B, T, width]; of several segments [2·layers, N, width].
 */
export function forwardGraph(
  config: ModelConfig,
  places: readonly PrefixPlace[],
  decoder: Model['decoder'],
  count: number,
): Graph {
  const { layers } = config
  const g = new GraphBuilder()
  const hasCross = places.some(({ attachment }) => attachment === 'cross')
  const segments = Array.from({ length: count }, (_, s) => {
    // Dimensions of the same name are the same: those of other segments have other names.
    const [name, dim] = count === 1 ? ['', ''] : [`${s}.`, `${s}`]
    const [B, T] = [`B${dim}`, `T${dim}`]
    const past = (kind: string, positions: Dim): Past => pastInputs(g, config, name + kind, layers, [B, positions])
    const cross = hasCross ? { cross: past('cross', `C${dim}`) } : {}
    return {
      tokens: g.input(`${name}tokens`, [B, T], 'int32'),
      positions: g.input(`${name}positions`, [B, T], 'int32'),
      past: past('past', `M${dim}`),
      ...cross,
    }
  })
  const { hidden, table, bias, keys, values } = decoder(g, { segments, rows: g.input('rows', ['R'], 'int32') })
  const present = g.stack(keys.flatMap((key, l) => [key, values[l] as Value]))
  return makeGraph({ logits: g.linear(hidden, table, bias, { transposed: true }), present })
}

/**
 * The encoder over a batch of sources. Inputs: int32 tokens and positions [B, S], lengths [B] and pastLengths [B], and
 * pastKey.l [B, heads, headDim, P] and pastValue.l [B, heads, P, headDim] of each of its layers. Output: cross, what the
 * decoder's cross-attention sees, keys and values layer by layer: [2·decoder layers, B, S, width].
 */
export function sourceGraph(
  config: ModelConfig,
  layers: number,
  cross: (g: GraphBuilder, source: SourceSegment) => KeysAndValues,
): Graph {
  const g = new GraphBuilder()
  const source = {
    tokens: g.input('tokens', ['B', 'S'], 'int32'),
    positions: g.input('positions', ['B', 'S'], 'int32'),
    lengths: g.input('lengths', ['B'], 'int32'),
    past: pastInputs(g, config, 'past', layers, ['B', 'P']),
  }
  const { keys, values } = cross(g, source)
  return makeGraph({ cross: g.stack(keys.flatMap((key, l) => [key, values[l] as Value])) })
}

function pastInputs(
  g: GraphBuilder,
  { heads, headDim }: Heads,
  name: string,
  layers: number,
  [batch, positions]: readonly [Dim, Dim],
): Past {
  const lengths = g.input(`${name}Lengths`, [batch], 'int32')
  const each = Array.from(
    { length: layers },
    (_, l): LayerPast => ({
      key: g.input(`${name}Key.${l}`, [batch, heads, headDim, positions]),
      value: g.input(`${name}Value.${l}`, [batch, heads, positions, headDim]),
    }),
  )
  return { layers: each, lengths }
}

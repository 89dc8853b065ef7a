// BART (Lewis et al. 2020) as a graph: an encoder and a decoder of post-norm blocks, learned positions, a tied head.
import assert from 'node:assert/strict'
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { Shape } from '../graph/shape.ts'
import type { TensorSpec } from './checkpoint.ts'
import type { BartConfig } from './bart-config.ts'
import { apart, joined } from './segments.ts'
import type {
  DecoderInputs,
  DecoderOutputs,
  DecoderSegment,
  EncodedSource,
  KeysAndValues,
  LayerPast,
  Past,
  SourceSegment,
} from './segments.ts'

/** Of torch's LayerNorm; BART's configuration has no other. */
const epsilon = 1e-5

/** Position 0 is the third row of the table in the file: fairseq kept the first two for padding. */
const positionOffset = 2

/** The embedding is stored once, under one of these names. */
const embedding = 'shared.weight'
const embeddingAliases = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight', 'lm_head.weight']

/** Every weight, by its name without the leading `model.`. */
export function bartWeights(config: BartConfig): Map<string, TensorSpec> {
  const { width, positionsMax, vocabulary } = config
  const specs = new Map<string, TensorSpec>()
  const shape = (name: string, ...extents: number[]): void => void specs.set(name, { shape: extents })
  const dense = (name: string, from: number, to: number): void => {
    shape(`${name}.weight`, to, from)
    shape(`${name}.bias`, to)
  }
  const norm = (name: string): void => {
    shape(`${name}.weight`, width)
    shape(`${name}.bias`, width)
  }
  const attention = (name: string): void => {
    for (const part of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) dense(`${name}.${part}`, width, width)
  }
  specs.set(embedding, { shape: [vocabulary, width], aliases: embeddingAliases })
  specs.set('final_logits_bias', { shape: [1, vocabulary], optional: true })
  for (const [side, layers, hidden] of sides(config)) {
    specs.set(`${side}.embed_positions.weight`, { shape: [positionsMax, width], rowsBefore: positionOffset })
    norm(`${side}.layernorm_embedding`)
    for (let l = 0; l < layers; l++) {
      const layer = `${side}.layers.${l}`
      attention(`${layer}.self_attn`)
      norm(`${layer}.self_attn_layer_norm`)
      if (side === 'decoder') {
        attention(`${layer}.encoder_attn`)
        norm(`${layer}.encoder_attn_layer_norm`)
      }
      dense(`${layer}.fc1`, width, hidden)
      dense(`${layer}.fc2`, hidden, width)
      norm(`${layer}.final_layer_norm`)
    }
  }
  return specs
}

const sides = (config: BartConfig): readonly (readonly ['encoder' | 'decoder', number, number])[] => [
  ['encoder', config.encoder.layers, config.encoder.hiddenWidth],
  ['decoder', config.layers, config.hiddenWidth],
]

/** [vocabulary, width] */
export function bartEmbedding(g: GraphBuilder, { vocabulary, width }: BartConfig): Value {
  return g.weight(embedding, [vocabulary, width])
}

export interface EncoderOutputs {
  /** [B, S, width]; of several sources [E, width]. */
  readonly hidden: Value
  /** What its own attention made of the sources, by its layers. */
  readonly self: KeysAndValues
}

/** The pieces that both sides are made of. */
class Blocks {
  readonly g: GraphBuilder
  readonly config: BartConfig
  readonly #shapes: ReadonlyMap<string, TensorSpec>

  constructor(g: GraphBuilder, config: BartConfig) {
    this.g = g
    this.config = config
    this.#shapes = bartWeights(config)
  }

  weight(name: string): Value {
    return this.g.weight(name, this.#shapes.get(name)?.shape as Shape)
  }
  dense(x: Value, name: string): Value {
    return this.g.linear(x, this.weight(`${name}.weight`), this.weight(`${name}.bias`), { transposed: true })
  }
  /** The norm comes behind each block and its residual. */
  norm(x: Value, name: string): Value {
    return this.g.layerNorm(x, this.weight(`${name}.weight`), this.weight(`${name}.bias`), epsilon)
  }

  embed(tokens: Value, positions: Value, side: 'encoder' | 'decoder'): Value {
    const { g, config } = this
    const words = tokens.dtype === 'int32' ? g.gather(bartEmbedding(g, config), tokens) : tokens
    const scaled = config.embeddingScale === 1 ? words : g.scale(words, config.embeddingScale)
    const placed = g.gather(this.weight(`${side}.embed_positions.weight`), positions)
    return g.add(scaled, placed)
  }

  feedForward(x: Value, layer: string): Value {
    const inner = this.dense(x, `${layer}.fc1`)
    const activated = this.config.activation === 'gelu' ? this.g.exactGelu(inner) : this.g.gelu(inner)
    return this.norm(this.g.add(x, this.dense(activated, `${layer}.fc2`)), `${layer}.final_layer_norm`)
  }
}

/** Names of the three projections that attention is between. */
const projections = ['q_proj', 'k_proj', 'v_proj'] as const

export function bartEncoder(g: GraphBuilder, config: BartConfig, sources: readonly SourceSegment[]): EncoderOutputs {
  const b = new Blocks(g, config)
  const { heads } = config
  const like = sources.map(({ positions }) => positions.shape)
  const self: { keys: Value[]; values: Value[] } = { keys: [], values: [] }
  const embedded = sources.map(({ tokens, positions }) => b.embed(tokens, positions, 'encoder'))
  let x = b.norm(joined(g, embedded, 'E'), 'encoder.layernorm_embedding')
  for (let l = 0; l < config.encoder.layers; l++) {
    const layer = `encoder.layers.${l}`
    const [query, key, value] = projections.map((part) => b.dense(x, `${layer}.self_attn.${part}`)) as Three
    self.keys.push(key)
    self.values.push(value)
    const [q, k, v] = [query, key, value].map((each) => apart(g, each, like)) as ThreeApart
    const attended = sources.map(({ past, lengths }, s) => {
      const before = past.layers[l] as LayerPast
      return g.crossAttention([q[s]!, before.key, before.value, past.lengths, k[s]!, v[s]!, lengths], heads)
    })
    const projected = b.dense(joined(g, attended, 'E'), `${layer}.self_attn.out_proj`)
    x = b.feedForward(b.norm(g.add(x, projected), `${layer}.self_attn_layer_norm`), layer)
  }
  return { hidden: x, self }
}

/** What the decoder's cross-attention sees of encoded sources [B, S, width] or [E, width], by the decoder's layers. */
export function bartCross(g: GraphBuilder, config: BartConfig, hidden: Value): KeysAndValues {
  const b = new Blocks(g, config)
  const forLayers = (part: string): Value[] =>
    Array.from({ length: config.layers }, (_, l) => b.dense(hidden, `decoder.layers.${l}.encoder_attn.${part}`))
  return { keys: forLayers('k_proj'), values: forLayers('v_proj') }
}

type Three = [Value, Value, Value]
type ThreeApart = [readonly Value[], readonly Value[], readonly Value[]]

export function bartDecoder(g: GraphBuilder, config: BartConfig, { segments, rows }: DecoderInputs): DecoderOutputs {
  const b = new Blocks(g, config)
  const { layers, heads } = config
  const like = segments.map(({ positions }) => positions.shape)
  const cross = crossAttention(g, config, segments)
  const [keys, values]: [Value[], Value[]] = [[], []]

  const embedded = segments.map(({ tokens, positions }) => b.embed(tokens, positions, 'decoder'))
  let x = b.norm(joined(g, embedded, 'N'), 'decoder.layernorm_embedding')
  for (let l = 0; l < layers; l++) {
    const layer = `decoder.layers.${l}`
    const [query, key, value] = projections.map((part) => b.dense(x, `${layer}.self_attn.${part}`)) as Three
    keys.push(key)
    values.push(value)
    const [q, k, v] = [query, key, value].map((each) => apart(g, each, like)) as ThreeApart
    const attended = segments.map(({ past }, s) => {
      const before = past.layers[l] as LayerPast
      return g.attention([q[s]!, k[s]!, v[s]!, before.key, before.value, past.lengths], heads)
    })
    const projected = b.dense(joined(g, attended, 'N'), `${layer}.self_attn.out_proj`)
    x = b.norm(g.add(x, projected), `${layer}.self_attn_layer_norm`)

    let seen = joined(g, cross.of(l, apart(g, b.dense(x, `${layer}.encoder_attn.q_proj`), like)), 'N')
    // Nothing mixes positions after the last attention: from here on the wanted rows are enough.
    if (l === layers - 1 && rows !== null) [seen, x] = [g.gather(seen, rows), g.gather(x, rows)]
    const crossed = b.dense(seen, `${layer}.encoder_attn.out_proj`)
    x = b.feedForward(b.norm(g.add(x, crossed), `${layer}.encoder_attn_layer_norm`), layer)
  }
  const bias = config.hasLogitsBias ? g.reshape(b.weight('final_logits_bias'), [config.vocabulary]) : null
  return { hidden: x, table: bartEmbedding(g, config), bias, keys, values, sourceKeysAndValues: cross.made }
}

interface CrossAttention {
  /** What queries [B, T, width] of each segment come to in a layer. */
  of(layer: number, queries: readonly Value[]): readonly Value[]
  readonly made: DecoderOutputs['sourceKeysAndValues']
}

/** What is between the two: over what lies ready, and over the sources where segments have them. */
function crossAttention(g: GraphBuilder, config: BartConfig, segments: readonly DecoderSegment[]): CrossAttention {
  const { heads } = config
  const sources = segments.flatMap(({ source }) => source ?? [])
  const before = (s: number, l: number): Three => {
    const { layers, lengths } = segments[s]?.cross as Past
    const { key, value } = layers[l] as LayerPast
    return [key, value, lengths]
  }
  if (sources.length === 0)
    return { made: null, of: (l, queries) => queries.map((q, s) => g.crossAttention([q, ...before(s, l)], heads)) }
  assert.equal(sources.length, segments.length, 'either all segments have a source or none')
  const { hidden, shapes, self } = encoded(g, config, sources)
  const { keys, values } = bartCross(g, config, hidden)
  const of = (l: number, queries: readonly Value[]): readonly Value[] => {
    const [k, v] = [keys[l]!, values[l]!].map((each) => apart(g, each, shapes)) as [Value[], Value[]]
    return queries.map((q, s) => g.crossAttention([q, ...before(s, l), k[s]!, v[s]!, sources[s]!.lengths], heads))
  }
  return { made: { encoder_self: self, cross: { keys, values } }, of }
}

/** Sources that the encoder reads here, and those that were read before, in their order. */
function encoded(
  g: GraphBuilder,
  config: BartConfig,
  sources: readonly (SourceSegment | EncodedSource)[],
): { readonly hidden: Value; readonly shapes: readonly Shape[]; readonly self: KeysAndValues } {
  const shapeOf = (each: SourceSegment | EncodedSource): Shape =>
    'hidden' in each ? each.hidden.shape.slice(0, 2) : each.positions.shape
  const unread = sources.filter((each): each is SourceSegment => !('hidden' in each))
  const read = unread.length === 0 ? null : bartEncoder(g, config, unread)
  const parts = read === null ? [] : [...apart(g, read.hidden, unread.map(shapeOf))]
  const all = sources.map((each) => ('hidden' in each ? each.hidden : (parts.shift() as Value)))
  const isAsRead = read !== null && unread.length === sources.length
  return {
    hidden: isAsRead ? read.hidden : joined(g, all, 'X'),
    shapes: sources.map(shapeOf),
    self: read?.self ?? { keys: [], values: [] },
  }
}

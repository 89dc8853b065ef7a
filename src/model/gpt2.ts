// GPT-2 (Radford et al. 2019) as a graph: pre-norm decoder blocks, learned positions, a head tied to the embedding.
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { Shape } from '../graph/shape.ts'
import type { Gpt2Config, ModelConfig } from './config.ts'
import { apart, joined, type DecoderInputs, type DecoderOutputs, type LayerPast } from './segments.ts'

/** The shape of every weight, by its name without the leading `transformer.`. */
export function gpt2Weights({
  layers,
  width,
  hiddenWidth,
  positionsMax,
  vocabulary,
}: ModelConfig): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>()
  const dense = (name: string, from: number, to: number): void => {
    shapes.set(`${name}.weight`, [from, to]).set(`${name}.bias`, [to])
  }
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [width]).set(`${name}.bias`, [width])
  }
  shapes.set('wte.weight', [vocabulary, width]).set('wpe.weight', [positionsMax, width])
  for (let l = 0; l < layers; l++) {
    norm(`h.${l}.ln_1`)
    dense(`h.${l}.attn.c_attn`, width, 3 * width)
    dense(`h.${l}.attn.c_proj`, width, width)
    norm(`h.${l}.ln_2`)
    dense(`h.${l}.mlp.c_fc`, width, hiddenWidth)
    dense(`h.${l}.mlp.c_proj`, hiddenWidth, width)
  }
  norm('ln_f')
  return shapes
}

/** [vocabulary, width] */
export function gpt2Embedding(g: GraphBuilder, { vocabulary, width }: ModelConfig): Value {
  return g.weight('wte.weight', [vocabulary, width])
}

export function gpt2Decoder(g: GraphBuilder, config: Gpt2Config, { segments, rows }: DecoderInputs): DecoderOutputs {
  const { layers, heads, width, epsilon } = config
  const shapes = gpt2Weights(config)
  const weight = (name: string): Value => g.weight(name, shapes.get(name) as Shape)
  const norm = (x: Value, name: string): Value =>
    g.layerNorm(x, weight(`${name}.weight`), weight(`${name}.bias`), epsilon)
  const dense = (x: Value, name: string): Value => g.linear(x, weight(`${name}.weight`), weight(`${name}.bias`))
  const table = gpt2Embedding(g, config)
  const keys: Value[] = []
  const values: Value[] = []
  const like = segments.map(({ positions }) => positions.shape)

  const embedded = segments.map(({ tokens, positions }) =>
    g.add(tokens.dtype === 'int32' ? g.gather(table, tokens) : tokens, g.gather(weight('wpe.weight'), positions)),
  )
  let x = joined(g, embedded, 'N')
  for (let l = 0; l < layers; l++) {
    const qkv = dense(norm(x, `h.${l}.ln_1`), `h.${l}.attn.c_attn`)
    const cut = (part: Value): [Value, Value, Value] =>
      g.split(part, part.shape.length - 1, [width, width, width]) as [Value, Value, Value]
    const parts = apart(g, qkv, like).map(cut)
    const [, newKeys, newValues] = segments.length === 1 ? (parts[0] as [Value, Value, Value]) : cut(qkv)
    keys.push(newKeys)
    values.push(newValues)
    const attended = segments.map(({ past }, s) => {
      const [q, k, v] = parts[s] as [Value, Value, Value]
      const { key, value } = past.layers[l] as LayerPast
      return g.attention([q, k, v, key, value, past.lengths], heads)
    })
    x = g.add(x, dense(joined(g, attended, 'N'), `h.${l}.attn.c_proj`))
    // Nothing mixes positions after the last attention: from here on the wanted rows are enough.
    if (l === layers - 1 && rows !== null) x = g.gather(x, rows)
    x = g.add(x, dense(g.gelu(dense(norm(x, `h.${l}.ln_2`), `h.${l}.mlp.c_fc`)), `h.${l}.mlp.c_proj`))
  }
  return { hidden: norm(x, 'ln_f'), table, bias: null, keys, values, sourceKeysAndValues: null }
}

// What a GPT-2's config.json says, checked: only what the graph really computes is let in.
import { Fields, type Json } from './fields.ts'

export interface ModelConfig {
  /** Of the decoder. */
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  /** Width of the residual stream, heads · headDim. */
  readonly width: number
  /** Width inside the feed-forward block. */
  readonly hiddenWidth: number
  /** Sequence limit in positions, prefix included. */
  readonly positionsMax: number
  readonly vocabulary: number
}

export interface Gpt2Config extends ModelConfig {
  readonly epsilon: number
}

/** Throws `model_invalid` that names the field, what it is and what is supported. */
export function readGpt2Config(json: Json, file: string): Gpt2Config {
  const fields = new Fields(json, file)
  fields.only('activation_function', ['gelu_new', 'gelu_pytorch_tanh'])
  fields.only('tie_word_embeddings', [true])
  fields.only('scale_attn_weights', [true])
  fields.only('scale_attn_by_inverse_layer_idx', [false])
  fields.only('add_cross_attention', [false])

  const [width, heads] = [fields.count('n_embd'), fields.count('n_head')]
  if (width % heads !== 0) fields.refuse('n_head', `a divisor of n_embd ${width}`)
  const epsilon = fields.get('layer_norm_epsilon') ?? 1e-5
  if (typeof epsilon !== 'number' || !(epsilon > 0)) return fields.refuse('layer_norm_epsilon', 'a positive number')
  return {
    layers: fields.count('n_layer'),
    heads,
    headDim: width / heads,
    width,
    hiddenWidth: (fields.get('n_inner') ?? null) === null ? 4 * width : fields.count('n_inner'),
    positionsMax: fields.count('n_positions'),
    vocabulary: fields.count('vocab_size'),
    epsilon,
  }
}

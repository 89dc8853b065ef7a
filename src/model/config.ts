// What a model's config.json says, checked: only what the graphs really compute is let in.
import { ServiceError } from '../errors/errors.ts'

export interface ModelConfig {
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
  readonly epsilon: number
}

/** Throws `model_invalid` that names the field, what it is and what is supported. */
export function readGpt2Config(json: Readonly<Record<string, unknown>>, file: string): ModelConfig {
  const refuse = (field: string, supported: string): never => {
    throw new ServiceError(
      'model_invalid',
      `${file}: ${field} is ${JSON.stringify(json[field])}, supported is ${supported}`,
    )
  }
  const count = (field: string): number => {
    const value = json[field]
    return typeof value === 'number' && Number.isInteger(value) && value > 0
      ? value
      : refuse(field, 'a positive integer')
  }
  const only = (field: string, allowed: readonly unknown[]): void => {
    if (json[field] !== undefined && !allowed.includes(json[field]))
      refuse(field, allowed.map((v) => JSON.stringify(v)).join(' or '))
  }
  if (json['model_type'] !== 'gpt2') refuse('model_type', '"gpt2"')
  only('activation_function', ['gelu_new', 'gelu_pytorch_tanh'])
  only('tie_word_embeddings', [true])
  only('scale_attn_weights', [true])
  only('scale_attn_by_inverse_layer_idx', [false])
  only('add_cross_attention', [false])

  const [width, heads] = [count('n_embd'), count('n_head')]
  if (width % heads !== 0) refuse('n_head', `a divisor of n_embd ${width}`)
  const epsilon = json['layer_norm_epsilon'] ?? 1e-5
  if (typeof epsilon !== 'number' || !(epsilon > 0)) return refuse('layer_norm_epsilon', 'a positive number')
  return {
    layers: count('n_layer'),
    heads,
    headDim: width / heads,
    width,
    hiddenWidth: json['n_inner'] === undefined || json['n_inner'] === null ? 4 * width : count('n_inner'),
    positionsMax: count('n_positions'),
    vocabulary: count('vocab_size'),
    epsilon,
  }
}

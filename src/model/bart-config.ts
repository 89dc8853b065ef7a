// What a BART's config.json and generation_config.json say, checked: only what the graph really computes is let in.
import type { ModelConfig } from './config.ts'
import { Fields, type Json } from './fields.ts'

export interface BartTokens {
  /** Around a source, and around what is said: `<s>` and `</s>`. */
  readonly begin: number
  readonly end: number
  /** What the decoder reads first. */
  readonly start: number
  /** What is said first whatever the logits; null: nothing. */
  readonly forcedFirst: number | null
  /** What is said last where the length ends a text; null: nothing. */
  readonly forcedLast: number | null
}

export interface BartConfig extends ModelConfig {
  readonly encoder: { readonly layers: number; readonly hiddenWidth: number }
  /** What embeddings are multiplied with. */
  readonly embeddingScale: number
  readonly activation: 'gelu' | 'gelu_new'
  /** Whether the checkpoint has a bias of the logits. */
  readonly hasLogitsBias: boolean
  readonly tokens: BartTokens
}

/** Of fairseq's variants, those whose layers are put together otherwise. */
const otherLayouts: readonly (readonly [field: string, usual: unknown])[] = [
  ['normalize_before', false],
  ['add_final_layer_norm', false],
  ['normalize_embedding', true],
  ['static_position_embeddings', false],
  ['add_bias_logits', false],
  ['extra_pos_embeddings', 2],
]

/** `generation` is what generation_config.json says. Throws `model_invalid` that names the field, what it is and what is supported. */
export function readBartConfig(json: Json, generation: Json, file: string): Omit<BartConfig, 'hasLogitsBias'> {
  const fields = new Fields(json, file)
  fields.only('activation_function', ['gelu', 'gelu_new', 'gelu_pytorch_tanh'])
  fields.only('tie_word_embeddings', [true])
  fields.only('scale_embedding', [true, false])
  for (const [field, usual] of otherLayouts) fields.only(field, [usual])

  const [width, heads] = [fields.count('d_model'), fields.count('decoder_attention_heads')]
  if (width % heads !== 0) fields.refuse('decoder_attention_heads', `a divisor of d_model ${width}`)
  if (fields.count('encoder_attention_heads') !== heads)
    fields.refuse('encoder_attention_heads', `decoder_attention_heads, ${heads}: prefixes of both sides have one shape`)
  const vocabulary = fields.count('vocab_size')
  return {
    layers: fields.count('decoder_layers'),
    heads,
    headDim: width / heads,
    width,
    hiddenWidth: fields.count('decoder_ffn_dim'),
    positionsMax: fields.count('max_position_embeddings'),
    vocabulary,
    encoder: { layers: fields.count('encoder_layers'), hiddenWidth: fields.count('encoder_ffn_dim') },
    embeddingScale: fields.get('scale_embedding') === true ? Math.sqrt(width) : 1,
    activation: (fields.get('activation_function') ?? 'gelu') === 'gelu' ? 'gelu' : 'gelu_new',
    tokens: readTokens(json, generation, file, vocabulary),
  }
}

/** generation_config.json has the last word, as in transformers; tokens that neither file names are those of every BART. */
function readTokens(json: Json, generation: Json, file: string, vocabulary: number): BartTokens {
  const fields = new Fields({ ...json, ...generation }, file)
  const token = (field: string, usual: number): number => fields.token(field, vocabulary) ?? usual
  const end = token('eos_token_id', 2)
  return {
    begin: token('bos_token_id', 0),
    end,
    start: token('decoder_start_token_id', end),
    forcedFirst: fields.token('forced_bos_token_id', vocabulary),
    forcedLast: fields.token('forced_eos_token_id', vocabulary),
  }
}

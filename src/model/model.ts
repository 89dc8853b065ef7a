// A frozen model in a Hugging Face folder: what it is, where its weights lie, and its graphs.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import type { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import type { Weights } from '../tensor/weights.ts'
import { bartCross, bartDecoder, bartEmbedding, bartEncoder, bartWeights } from './bart.ts'
import { readBartConfig } from './bart-config.ts'
import { openWeights, type TensorSpec } from './checkpoint.ts'
import { readGpt2Config, type ModelConfig } from './config.ts'
import { Fields, type Json } from './fields.ts'
import { forwardGraph, sourceGraph } from './forward.ts'
import { answering, continuing, type Framing } from './framing.ts'
import { gpt2Decoder, gpt2Embedding, gpt2Weights } from './gpt2.ts'
import type { DecoderInputs, DecoderOutputs, PlaceName, SourceSegment } from './segments.ts'

/** A kind of attention that takes keys and values from outside, in each of so many layers. */
export interface PrefixPlace {
  readonly attachment: PlaceName
  readonly layers: number
}

/** Position 0, or P. */
export type TextStart = 'zero' | 'prefixLength'

export interface Model {
  /** Name of the folder. */
  readonly name: string
  readonly folder: string
  /** Over the weight files: what a prefix trained on it must name. */
  readonly sha256: string
  readonly config: ModelConfig
  readonly weights: Weights
  /** Where a prefix may be put in, in the order in which a stored one has its layers. */
  readonly places: readonly PrefixPlace[]
  /** Where text may start behind a prefix, in positions; the first is how a prefix is trained here. */
  readonly textStarts: readonly TextStart[]
  readonly framing: Framing
  /** Positions of what an encoder reads; 0: there is none. */
  readonly sourceMax: number
  /** [vocabulary, width] */
  embedding(g: GraphBuilder): Value
  /** Adds the decoder to a graph, and the encoder where segments have sources. */
  decoder(g: GraphBuilder, inputs: DecoderInputs): DecoderOutputs
  /** Adds the encoder alone: what the decoder sees of a source, [B, S, width]; null: the model has none. */
  readonly encoder: ((g: GraphBuilder, source: SourceSegment) => Value) | null
  /** Prefill, decode step or both at once; see `forwardGraph`. */
  forwardGraph(segments?: number): Graph
  /** The encoder alone; null: the model has none. See `sourceGraph`. */
  sourceGraph(): Graph | null
}

/** What a prefix that is to be played on the model is compared with: the `PlayingModel` of artifact.ts, template included. */
export function playing(model: Model, tokenizer: { readonly sha256: string }) {
  const { name, sha256, places, textStarts, framing } = model
  const { layers, heads, headDim, positionsMax } = model.config
  const { template } = framing
  const tokenizerSha256 = tokenizer.sha256
  return { name, sha256, tokenizerSha256, layers, heads, headDim, positionsMax, places, textStarts, template }
}

/** Throws `model_invalid`, naming the file, tensor or field that is wrong. */
export async function openModel(folder: string): Promise<Model> {
  const file = path.join(folder, 'config.json')
  const json = await readJson(file)
  const name = path.basename(path.resolve(folder))
  // The one place that asks which model it is: from here on it is what a Model says of itself.
  const type = json['model_type']
  if (type === 'gpt2') return { name, folder, ...(await openGpt2(folder, json, file)) }
  if (type === 'bart') return { name, folder, ...(await openBart(folder, json, file)) }
  const hint = type === 'mbart' ? ' (mBART has its layer norms before the blocks and one more at the end)' : ''
  return new Fields(json, file).refuse('model_type', `"gpt2" or "bart"${hint}`)
}

type Opened = Omit<Model, 'name' | 'folder'>

async function openGpt2(folder: string, json: Json, file: string): Promise<Opened> {
  const config = readGpt2Config(json, file)
  const shapes = gpt2Weights(config)
  const specs = new Map([...shapes].map(([name, shape]): [string, TensorSpec] => [name, { shape }]))
  const { weights, sha256 } = await openWeights(folder, specs)
  const decoder = (g: GraphBuilder, inputs: DecoderInputs): DecoderOutputs => gpt2Decoder(g, config, inputs)
  const places = [{ attachment: 'decoder_self', layers: config.layers }] as const
  return {
    sha256,
    config,
    weights,
    places,
    textStarts: ['prefixLength'],
    framing: continuing,
    sourceMax: 0,
    embedding: (g) => gpt2Embedding(g, config),
    decoder,
    encoder: null,
    forwardGraph: (segments = 1) => forwardGraph(config, places, decoder, segments),
    sourceGraph: () => null,
  }
}

async function openBart(folder: string, json: Json, file: string): Promise<Opened> {
  const generation = await readJson(path.join(folder, 'generation_config.json'), {})
  const read = { ...readBartConfig(json, generation, file), hasLogitsBias: false }
  const { weights, sha256 } = await openWeights(folder, bartWeights(read))
  const config = { ...read, hasLogitsBias: weights.tensors.has('final_logits_bias') }
  const decoder = (g: GraphBuilder, inputs: DecoderInputs): DecoderOutputs => bartDecoder(g, config, inputs)
  const encoder = (g: GraphBuilder, source: SourceSegment): Value => bartEncoder(g, config, [source]).hidden
  const places = [
    { attachment: 'decoder_self', layers: config.layers },
    { attachment: 'cross', layers: config.layers },
    { attachment: 'encoder_self', layers: config.encoder.layers },
  ] as const
  return {
    sha256,
    config,
    weights,
    places,
    textStarts: ['zero', 'prefixLength'],
    framing: answering(config.tokens),
    sourceMax: config.positionsMax,
    embedding: (g) => bartEmbedding(g, config),
    decoder,
    encoder,
    forwardGraph: (segments = 1) => forwardGraph(config, places, decoder, segments),
    sourceGraph: () =>
      sourceGraph(config, config.encoder.layers, (g, source) => bartCross(g, config, encoder(g, source))),
  }
}

/** `missing` is what a file that is not there means. */
async function readJson(file: string, missing?: Json): Promise<Json> {
  try {
    const json: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json
    throw new Error('not an object')
  } catch (error) {
    if (missing !== undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return missing
    throw new ServiceError('model_invalid', `cannot read ${file}: ${(error as Error).message}`, {}, { cause: error })
  }
}

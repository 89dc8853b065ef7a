// A frozen model in a Hugging Face folder: what it is, where its weights lie, and its graphs.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { makeGraph, type Graph } from '../graph/graph.ts'
import type { Weights } from '../tensor/weights.ts'
import { readGpt2Config, type ModelConfig } from './config.ts'
import { gpt2Decoder, gpt2Weights, type DecoderInputs, type DecoderOutputs } from './gpt2.ts'
import { openWeights } from './checkpoint.ts'

export interface Model {
  /** Name of the folder. */
  readonly name: string
  readonly folder: string
  /** Over the weight files: what a prefix trained on it must name. */
  readonly sha256: string
  readonly config: ModelConfig
  readonly weights: Weights
  /** Adds the decoder to a graph. */
  decoder(g: GraphBuilder, inputs: DecoderInputs): DecoderOutputs
  /**
   * Prefill, decode step or both at once, over segments of neighbouring rows. Inputs of segment s, named with `s.` in
   * front where there are several (`1.tokens`): int32 tokens and positions [B, T], pastLengths [B], and pastKey.l
   * [B, heads, headDim, M] and pastValue.l [B, heads, M, headDim] of each layer; and int32 rows [R], of the B·T positions
   * of all segments, counted one after the other. Outputs: logits [R, vocabulary] and present, the new keys and values
   * layer by layer: [2·layers, B, T, width]; of several segments [2·layers, N, width].
   */
  forwardGraph(segments?: number): Graph
}

/** Throws `model_invalid`, naming the file, tensor or field that is wrong. */
export async function openModel(folder: string): Promise<Model> {
  const file = path.join(folder, 'config.json')
  const config = readGpt2Config(await readJson(file), file)
  const { weights, sha256 } = await openWeights(folder, gpt2Weights(config))
  const decoder = (g: GraphBuilder, inputs: DecoderInputs): DecoderOutputs => gpt2Decoder(g, config, inputs)
  const name = path.basename(path.resolve(folder))
  return {
    name,
    folder,
    sha256,
    config,
    weights,
    decoder,
    forwardGraph: (segments = 1) => forwardGraph(config, decoder, segments),
  }
}

function forwardGraph({ layers, heads, headDim }: ModelConfig, decoder: Model['decoder'], count: number): Graph {
  const g = new GraphBuilder()
  const segments = Array.from({ length: count }, (_, s) => {
    // Dimensions of the same name are the same: those of other segments have other names.
    const [name, dim] = count === 1 ? ['', ''] : [`${s}.`, `${s}`]
    const [B, T, M] = [`B${dim}`, `T${dim}`, `M${dim}`]
    return {
      tokens: g.input(`${name}tokens`, [B, T], 'int32'),
      positions: g.input(`${name}positions`, [B, T], 'int32'),
      pastLengths: g.input(`${name}pastLengths`, [B], 'int32'),
      past: Array.from({ length: layers }, (_, l) => ({
        key: g.input(`${name}pastKey.${l}`, [B, heads, headDim, M]),
        value: g.input(`${name}pastValue.${l}`, [B, heads, M, headDim]),
      })),
    }
  })
  const { hidden, table, keys, values } = decoder(g, { segments, rows: g.input('rows', ['R'], 'int32') })
  const present = g.stack(keys.flatMap((key, l) => [key, values[l] as typeof key]))
  return makeGraph({ logits: g.linear(hidden, table, null, { transposed: true }), present })
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Record<string, unknown>
    throw new Error('not an object')
  } catch (error) {
    throw new ServiceError('model_invalid', `cannot read ${file}: ${(error as Error).message}`, {}, { cause: error })
  }
}
